"""metrics.jsonl: what the job says while it works. No torch, so that it works from the start."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from jobs.aside import write_aside
from jobs.spec import EvalRecord, PhaseRecord, Record, StepRecord, records_in


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_records(path: Path) -> list[Record]:
    """All whole records of a metrics.jsonl, of which there may be none yet."""
    return records_in(path.read_bytes().splitlines()) if path.exists() else []


class Progress:
    """Appends records, one flushed line each, and keeps the time spent in each phase.

    Records of steps after `keep_to_step` come from an attempt whose work is lost: they are
    dropped, so that the file always holds one curve. Without a path nothing is written: for the
    ranks beside the first.
    """

    def __init__(self, path: Path | None, keep_to_step: int) -> None:
        self.kept: list[Record] = []
        self._file: BinaryIO | None = None
        if path is not None:
            self.kept = [r for r in read_records(path) if _step(r) <= keep_to_step]
            write_aside(path, b"".join(msgspec.json.encode(r) + b"\n" for r in self.kept))
            self._file = path.open("ab")
        self._started_at = time.monotonic()
        self.phase = ""
        self.seconds_by_phase: dict[str, float] = {}

    def write(self, record: Record) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(record) + b"\n")
            self._file.flush()

    def touch(self) -> None:
        """A sign of life without a record, for who watches the file (jobs/stalls.py)."""
        if self._file is not None:
            os.utime(self._file.fileno())

    def enter(self, phase: str) -> None:
        """Close the phase at hand and begin another."""
        self._close_phase()
        self.phase = phase
        self.write(PhaseRecord(at=now(), phase=phase))
        print(f"{now()} {phase}", flush=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def seconds(self) -> dict[str, float]:
        """Seconds by phase, the one at hand included."""
        self._close_phase()
        return {name: round(seconds, 3) for name, seconds in self.seconds_by_phase.items()}

    def training_seconds(self) -> float:
        """Seconds trained by earlier attempts, as far as their work was kept."""
        return max((r.seconds for r in self.kept if isinstance(r, StepRecord)), default=0.0)

    def training_tokens(self) -> int:
        """Tokens trained on by earlier attempts, as far as their work was kept."""
        return max((r.tokens for r in self.kept if isinstance(r, StepRecord)), default=0)

    def base_loss(self) -> float | None:
        """The untouched model's validation loss from an earlier attempt."""
        found = (r.loss for r in self.kept if isinstance(r, EvalRecord) and r.step == 0)
        return next(found, None)

    def _close_phase(self) -> None:
        moment = time.monotonic()
        if self.phase:
            spent = self.seconds_by_phase.get(self.phase, 0.0)
            self.seconds_by_phase[self.phase] = spent + moment - self._started_at
        self._started_at = moment


def _step(record: Record) -> int:
    return 0 if isinstance(record, PhaseRecord) else record.step
