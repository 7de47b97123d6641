"""Where the model and the data are, told apart before anything heavy is imported.

A missing relative folder is easily taken for a Hub id, and then retries the network for half a
minute: what looks like a path is only ever looked for on disk.
"""

import hashlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from jobs import layout
from jobs.outcome import BadInput
from jobs.spec import WIRE_VERSION, ExportSpec, Lineage, ResolvedSpec

Wire = TypeVar("Wire", ResolvedSpec, ExportSpec)

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")  # a name, or an organisation and a name
PATH_START = (".", "~", os.sep)


def model_folder(model_id: str, run_folder: Path) -> Path | None:
    """The absolute folder that the id names, or None when it is a Hub id.

    Raises `BadInput` when it looks like a path and no model is there.
    """
    folder = (run_folder / Path(model_id).expanduser()).resolve()
    if not folder.exists() and HUB_ID.fullmatch(model_id) and not model_id.startswith(PATH_START):
        return None
    if not folder.is_dir():
        raise BadInput(f"model.id: no folder {folder}")
    if not (folder / "config.json").is_file():
        raise BadInput(f"model.id: {folder} has no config.json")
    return folder


def read_wire(path: Path, kind: type[Wire]) -> Wire:
    """A document of launcher or job, such as a spec.

    Raises `BadInput` where there is none, it is not of that kind, or of another wire version.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    if found.wire_version != WIRE_VERSION:
        raise BadInput(f"{path}: wire_version {found.wire_version}, this job reads {WIRE_VERSION}")
    return found


def base_of(job: ResolvedSpec, run: Path) -> tuple[str, str | None]:
    """Where a finished run's unquantised base comes from: a folder or Hub id, and its revision,
    which is the commit that it was trained on where that is known."""
    generated = run / layout.BASE
    if generated.is_dir():
        return str(generated.resolve()), None
    local = model_folder(job.model.id, run)
    if local is not None:
        return str(local), None
    try:
        trained_on = msgspec.json.decode((run / layout.LINEAGE).read_bytes(), type=Lineage).base
    except OSError:
        return job.model.id, job.model.revision
    except msgspec.DecodeError as error:
        raise BadInput(f"{run / layout.LINEAGE}: {error}") from None
    return job.model.id, trained_on.revision or job.model.revision


def data_file(value: str, key: str, run_folder: Path, sha256: str | None) -> Path:
    """The absolute file. Raises `BadInput`, naming the spec's key, when it is not there or not the
    one that was planned with."""
    path = (run_folder / Path(value).expanduser()).resolve()
    if not path.is_file():
        raise BadInput(f"{key}: no file {path}")
    if sha256 is not None:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise BadInput(f"{key}: {path} has changed since the run was planned")
    return path


def without_torch() -> None:
    """For a process that only reads rows, before anything else is imported: transformers and TRL do
    without torch, which takes longer to import than all the rest."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # or it is said that torch is not there


def set_environment(job: ResolvedSpec, model_is_local: bool) -> None:
    """Before the libraries are imported: quiet, no telemetry, no network where none is needed."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises while it is imported
    reports_to_hub = job.track == "trackio" and bool(os.environ.get("TRACKIO_SPACE_ID"))
    parent_is_local = not (job.resume_from or "").startswith("hub:")
    if model_is_local and parent_is_local and not reports_to_hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # Idle OpenMP threads spin by default; seen here: with another process on the same two cores a
    # training step took up to 25 s instead of 1 (2026-11-21; that spinning was why is inferred).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if job.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
