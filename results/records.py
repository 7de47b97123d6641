"""Reading what a job writes while it is still writing it."""

import fcntl
import os
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import EvalRecord, Record, Result, records_in


class Tail:
    """Whole lines of a file that grows; read again from the start when another took its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = -1

    def move(self, path: Path) -> None:
        """Go on at the same line in a copy of the file elsewhere."""
        if path != self._path:
            self._path, self._inode = path, -1

    def new(self) -> list[bytes]:
        """The lines since the last call, without the one still being written."""
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                replaced = self._inode not in (-1, found.st_ino)
                self._inode = found.st_ino
                if replaced or found.st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if not whole:
            return []
        self._offset += len(whole) + 1
        return whole.split(b"\n")


def is_at_work(folder: Path) -> bool:
    """Whether somebody holds the folder's lock: its job, or who starts or collects it."""
    return is_held(folder / layout.LOCK)


def is_held(path: Path) -> bool:
    """Whether somebody holds this lock; nobody where there is no such file."""
    try:
        with open(path) as lock:
            # shared: those who look do not see each other
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def records(metrics: Path) -> list[Record]:
    """All records of a metrics.jsonl so far."""
    return records_in(Tail(metrics).new())


def read_result(folder: Path) -> Result | None:
    """What a job left in its folder; None where it left nothing that can be read."""
    try:
        return msgspec.json.decode((folder / layout.RESULT).read_bytes(), type=Result)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def validation_loss(result: Result, metrics: Path) -> float | None:
    """The kept weights' loss on the validation rows: where the result is of the test rows, as it
    was taken in training, at the step that was kept. None where nothing took it."""
    if result.evaluated_on == "validation":
        return result.metrics.get("tuned", {}).get("loss")
    if "validation" in result.metrics:
        return result.metrics["validation"].get("loss")
    seen = records(metrics)
    # what has no epoch was taken before or after the training, on the rows that judge it
    taken = {r.step: r.loss for r in seen if isinstance(r, EvalRecord) and r.epoch is not None}
    kept = result.best_step if result.best_step is not None else max(taken, default=None)
    return taken.get(kept) if kept is not None else None
