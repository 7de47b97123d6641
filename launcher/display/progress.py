"""Showing a run while it works: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from jobs.spec import EvalRecord, PhaseRecord, Record, StepRecord
from launcher.display.runs import step_line

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_EVERY_SECONDS = 10.0


class Watcher(Protocol):
    def see(self, record: Record | None, spent_microusd: int) -> None:
        """A new record, or None when there is none and only time has passed."""

    def close(self) -> None: ...


def watch(
    records: Iterable[Record | None],
    watcher: Watcher,
    spent_microusd: int,
    microusd_per_second: float,
) -> None:
    """Show records until they end, and the dollars so far: what was spent, and the clock's."""
    began = time.monotonic()
    try:
        for record in records:
            since = round((time.monotonic() - began) * microusd_per_second)
            watcher.see(record, spent_microusd + since)
    finally:
        watcher.close()


def watcher(say: Callable[[str], None]) -> Watcher:
    """A bar where stderr is a terminal, else lines through `say`."""
    return Bar() if sys.stderr.isatty() else Lines(say)


class Lines:
    """One line a phase and one every ten seconds of training, for logs and pipes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = float("-inf")

    def see(self, record: Record | None, spent_microusd: int) -> None:
        if isinstance(record, PhaseRecord):
            self._say(f"phase {record.phase}")
        elif isinstance(record, EvalRecord):
            self._say(f"step {record.step}: validation loss {record.loss:.4f}")
        elif isinstance(record, StepRecord):
            due = time.monotonic() - self._last >= LINE_EVERY_SECONDS
            if due or record.step == record.steps_total:
                self._last = time.monotonic()
                self._say(step_line(record, spent_microusd))

    def close(self) -> None:
        pass


class Bar:
    """rich's progress bar on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.fields[phase]:<13}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            console=Console(stderr=True),
        )
        self._task: TaskID = self._progress.add_task("", phase="starting", line="", total=None)
        self._progress.start()

    def see(self, record: Record | None, spent_microusd: int) -> None:
        if isinstance(record, PhaseRecord):
            self._progress.update(self._task, phase=record.phase)
        elif isinstance(record, StepRecord):
            self._progress.update(
                self._task,
                total=record.steps_total,
                completed=record.step,
                line=step_line(record, spent_microusd),
            )

    def close(self) -> None:
        self._progress.stop()
