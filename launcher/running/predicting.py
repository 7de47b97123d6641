"""`launch predict`: a finished student's scores of new texts, computed on this machine."""

import os
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from jobs.spec import PredictSummary
from launcher.errors import BadInput, OutsideFailed
from launcher.executors.base import Say
from launcher.executors.environment import PYTHON_VARIABLE, training_python
from launcher.executors.foreground import run_module
from launcher.running.collecting import run_folder


class PredictFlags(Struct, frozen=True, kw_only=True):
    """What the command line asks for. None: not given."""

    out: str | None = None
    batch: int | None = None
    device: str | None = None
    python: str | None = None


def predict(
    run: str, file: str, flags: PredictFlags, say: Say
) -> tuple[int, PredictSummary | None]:
    """Score the texts of `file`: JSON lines to `flags.out`, or to this process's own stdout.

    Returns the job's exit code and what it measured, None where it failed. Raises BadInput for a
    run or a file that is not there, OutsideFailed where the training environment cannot be made.
    """
    home = run_folder(run)
    if not os.path.isfile(file):
        raise BadInput(f"{file}: no such file; give texts in one of the formats of training data")
    python = training_python(flags.python or os.environ.get(PYTHON_VARIABLE), say)
    with tempfile.TemporaryDirectory() as place:
        summary = Path(place) / "summary.json"
        arguments = [str(home), os.path.abspath(file), "--summary", str(summary)]
        if flags.out is not None:
            arguments += ["--out", os.path.abspath(flags.out)]
        if flags.batch is not None:
            arguments += ["--batch", str(flags.batch)]
        if flags.device is not None:
            arguments += ["--device", flags.device]
        code = run_module(python, "jobs.predict", *arguments, folder=Path(place), stdout=None)
        if code:
            return code, None
        try:
            return 0, msgspec.json.decode(summary.read_bytes(), type=PredictSummary)
        except (OSError, msgspec.DecodeError) as error:
            raise OutsideFailed(f"jobs.predict ended without a summary: {error}") from None
