"""Checkpoints one can trust: whole, or not there.

The trainer writes `checkpoint-<step>/` file by file. A COMPLETE file, written last, lists every
file with its size and SHA-256; a folder without it, or that does not match it, is the remains of
a crash and is removed. Weights are safetensors; optimizer, scheduler and random state are
torch's own format, which transformers loads with `weights_only=True`.
"""

import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from jobs import layout
from jobs.aside import write_aside
from jobs.spec import Complete, FileSum

PICKLED = ("training_args.bin",)  # the spec says it all; nothing that must be unpickled is kept


def mark_complete(checkpoint: Path) -> None:
    """Write the COMPLETE file, after every other file is on disk."""
    remove_pickled(checkpoint)
    files = {str(p.relative_to(checkpoint)): _sum(p) for p in _files(checkpoint)}
    complete = Complete(step=step_of(checkpoint), files=files)
    write_aside(checkpoint / layout.COMPLETE, msgspec.json.encode(complete))


def is_complete(checkpoint: Path) -> bool:
    """Whether every file that COMPLETE lists is there, with its size and SHA-256."""
    try:
        complete = msgspec.json.decode((checkpoint / layout.COMPLETE).read_bytes(), type=Complete)
        return complete.step == step_of(checkpoint) and all(
            (checkpoint / name).stat().st_size == listed.size_bytes
            and _digest(checkpoint / name) == listed.sha256
            for name, listed in complete.files.items()
        )
    except (OSError, msgspec.DecodeError):
        return False


def last_complete(checkpoints: Path, remove: bool = True) -> Path | None:
    """The whole checkpoint with the highest step; those that are not whole are removed."""
    for checkpoint in _newest_first(checkpoints):
        if is_complete(checkpoint):
            return checkpoint
        if remove:
            shutil.rmtree(checkpoint)
    return None


def keep_newest(checkpoints: Path, count: int, best: int | None = None) -> None:
    """Remove all but the `count` newest and the best step's; after the newest is complete."""
    for checkpoint in _newest_first(checkpoints)[count:]:
        if step_of(checkpoint) == best:
            continue
        # Without its marker a half-removed one cannot be taken for whole.
        (checkpoint / layout.COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)


def remove_pickled(folder: Path) -> None:
    for name in PICKLED:
        (folder / name).unlink(missing_ok=True)


def step_of(checkpoint: Path) -> int:
    """Raises ValueError for a folder that is no checkpoint's."""
    step = layout.step_of(checkpoint.name)
    if step is None:
        raise ValueError(f"{checkpoint} is not named as a checkpoint is")
    return step


def _newest_first(checkpoints: Path) -> list[Path]:
    here = checkpoints.glob(layout.CHECKPOINT_PREFIX + "*")
    return [checkpoints / name for name in layout.newest_first(path.name for path in here)]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != layout.COMPLETE)


def _sum(path: Path) -> FileSum:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return FileSum(size_bytes=path.stat().st_size, sha256=_digest(path))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
