"""Pure: whether a job still gets on, judged from outside by what it leaves to be seen.

Standard library only and Python 3.8 on, see jobs/watchdog.py.

In training: a step that is overdue by far. Elsewhere (set-up, download, loading, evaluation):
neither bytes nor work. Bytes that processes of ours write or read from disk are taken, not what a
network interface counts: a download is written somewhere, while interfaces also count a
launcher's looking. Processor time is the second sign, since compiling, quantising and
generating move no bytes. Each has a floor, so that a hung process that asks again and again, or
prints that it waits, is not taken for one that works.
"""

from __future__ import annotations

import json
import os
import statistics
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jobs.processes import Process, Spent, count

TIMES_MEDIAN = 10  # so many times the median step without a step is a stall
MEDIAN_OF = 3  # steps, at least; before that only silence is a stall
# Assumptions, both: the longest of what is neither stepping nor writing in a healthy job is an
# evaluation between epochs, some minutes; a Hub that does not answer is given up after minutes.
STEP_FLOOR_SECONDS = 900.0
SILENCE_SECONDS = 600.0
SILENT_BYTES = 2**20  # moving less in SILENCE_SECONDS, 2 GB would take two weeks
SILENT_CPU_SHARE = 0.01  # of one processor

_WINDOW = 200  # steps that the median is taken of


class Limits(NamedTuple):
    """Seconds; set by LORALIFT_STALL_STEP_SECONDS and LORALIFT_STALL_SILENCE_SECONDS."""

    step_floor: float = STEP_FLOOR_SECONDS
    silence: float = SILENCE_SECONDS

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Limits:
        return cls(
            float(environment.get("LORALIFT_STALL_STEP_SECONDS") or STEP_FLOOR_SECONDS),
            float(environment.get("LORALIFT_STALL_SILENCE_SECONDS") or SILENCE_SECONDS),
        )


class Metrics:
    """What metrics.jsonl says of the job, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.phase = ""
        self.step = self.steps_total = 0
        self.seen: tuple | None = None  # which file, its size and when it changed
        self._path = path
        self._offset = self._inode = 0
        self._seconds: float | None = None
        self._intervals: deque[float] = deque(maxlen=_WINDOW)

    def read(self) -> None:
        """Take in what is new; a file that was replaced is read from its beginning."""
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                self.seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset, self._seconds = status.st_ino, 0, None
                    self._intervals.clear()
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):  # being written
                        break
                    self._offset += len(line)
                    self._take(line)
        except FileNotFoundError:
            return

    @property
    def median_seconds(self) -> float | None:
        """Between two records of steps (of `log_every_steps` each), where enough are known."""
        if len(self._intervals) < MEDIAN_OF:
            return None
        return statistics.median(self._intervals)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        if record.get("event") == "phase":
            self.phase = record["phase"]
        elif record.get("event") == "step":
            self.step, self.steps_total = record["step"], record["steps_total"]
            if self._seconds is not None and record["seconds"] > self._seconds:
                self._intervals.append(record["seconds"] - self._seconds)
            self._seconds = record["seconds"]


class Stalls:
    """Told at every look what is to be seen, says when a job no longer gets on."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._stepped_at = self._lived_at = now
        self._seen: object = None
        self._sign: object = None
        self._used: dict[Process, Spent] = {}
        self._since = Spent(0.0, 0)

    def look(
        self, now: float, metrics: Metrics | None, used: dict[Process, Spent], sign: object
    ) -> str | None:
        """Why it is a stall, one line; None while it is none. `now`: seconds of a steady clock.

        `metrics` are those of a living job, `used` is what each process of ours has used; any
        change of `sign` is a sign of life.
        """
        self._live(now, used, sign)
        if metrics is None or metrics.seen != self._seen:
            self._seen, self._stepped_at = metrics and metrics.seen, now
        median = metrics and metrics.median_seconds
        if metrics is not None and metrics.phase == "train" and median is not None:
            self._lived_at = now  # silence is counted from the end of training on
            limit = max(self._limits.step_floor, TIMES_MEDIAN * median)
            if now - self._stepped_at <= limit:
                return None
            return (
                f"no step in {now - self._stepped_at:.0f} s after step {metrics.step} of "
                f"{metrics.steps_total}; the median is {median:.3g} s, the limit {limit:.0f} s"
            )
        if now - self._lived_at <= self._limits.silence:
            return None
        return (
            f"in {now - self._lived_at:.0f} s less than {SILENT_BYTES // 2**20} MiB moved and "
            f"less than {SILENT_CPU_SHARE:.0%} of a processor used"
        )

    def _live(self, now: float, used: dict[Process, Spent], sign: object) -> None:
        new = count(self._used, used)
        self._used = used
        self._since = Spent(
            self._since.cpu_seconds + new.cpu_seconds, self._since.bytes + new.bytes
        )
        busy = self._since.cpu_seconds >= SILENT_CPU_SHARE * self._limits.silence
        if busy or self._since.bytes >= SILENT_BYTES or sign != self._sign:
            self._lived_at, self._sign, self._since = now, sign, Spent(0.0, 0)
