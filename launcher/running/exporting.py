"""`launch export`: a collected run to files that a server loads.

The work is done by `python -m jobs.export` in the training environment, in the foreground; this
only says what is asked and where.
"""

import os
import re
import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

from jobs import layout
from jobs.spec import ExportResult, ExportSpec, ResolvedSpec, encode
from launcher.errors import BadInput, OutsideFailed
from launcher.executors.base import Say
from launcher.executors.environment import EXPORT, PYTHON_VARIABLE, kept_python, training_python
from launcher.executors.foreground import run_module
from launcher.inputs.metrics import require_exported
from launcher.inputs.targets import Targets, gate, targets
from launcher.running.collecting import export_folder, run_folder

# What Ollama takes for a model's name, and any file system for a file's.
NAME = r"[a-z0-9][a-z0-9_.-]{0,79}"


class ExportFlags(Struct, frozen=True, kw_only=True):
    """What the command line asks for. None or empty: not given."""

    targets: tuple[str, ...]
    gates: tuple[str, ...] = ()
    rows: str | None = None
    limit: int | None = None
    name: str | None = None
    out: str | None = None
    python: str | None = None


def export(run: str, flags: ExportFlags, say: Say) -> tuple[int, ExportResult]:
    """Export the run; the exit code, and what the job said.

    Raises BadInput for flags or a run that cannot be exported, OutsideFailed where an environment
    cannot be made or the job ends without an answer.
    """
    home = run_folder(run)
    job = _spec(home)
    wanted = targets(flags.targets, job.serve.quantization)
    out = _out_folder(home, flags.out)
    rows = _rows(flags.rows)
    name = flags.name or job.run_id.lower()
    if re.fullmatch(NAME, name) is None:
        raise BadInput(f"--name {name}: expected lower-case letters, digits, '_', '.' and '-'")
    gates = tuple(gate(text) for text in flags.gates)
    require_exported(gates, job)
    python = training_python(flags.python or os.environ.get(PYTHON_VARIABLE), say)
    spec = ExportSpec(
        run=str(home),
        out=str(out),
        tools_python=str(_tools(wanted, say)),
        name=name,
        merged=wanted.merged,
        gguf=wanted.gguf,
        ollama=wanted.ollama,
        gates=gates,
        rows=rows,
        limit=flags.limit,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / layout.EXPORT_SPEC).write_bytes(encode(spec))
    # our own stdout may be a JSON object's
    code = run_module(
        python, "jobs.export", layout.EXPORT_SPEC, folder=out, stdout=subprocess.DEVNULL
    )
    return code, _result(out)


def _spec(home: Path) -> ResolvedSpec:
    try:
        return msgspec.json.decode((home / layout.SPEC).read_bytes(), type=ResolvedSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{home / layout.SPEC}: not a run's spec: {error}") from None


def _out_folder(home: Path, named: str | None) -> Path:
    if named is None:
        return export_folder(home)
    out = Path(named).absolute()
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {named}: not a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / layout.EXPORT_SPEC).is_file():
        raise BadInput(f"--out {named}: not empty, and no earlier export; give an empty folder")
    return out


def _rows(named: str | None) -> str | None:
    if named is not None and not os.path.isfile(named):
        raise BadInput(f"--rows {named}: no such file")
    return None if named is None else os.path.abspath(named)


def _tools(wanted: Targets, say: Say) -> Path | str:
    return kept_python(EXPORT, say) if wanted.gguf else ""


def _result(out: Path) -> ExportResult:
    try:
        content = (out / layout.EXPORT_RESULT).read_bytes()
        return msgspec.json.decode(content, type=ExportResult)
    except (OSError, msgspec.DecodeError) as error:
        raise OutsideFailed(
            f"the export in {out} ended without leaving a result ({error}); run it again: steps "
            "that were finished are kept"
        ) from None
