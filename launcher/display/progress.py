"""A run while it works, and what is moved: a live bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol

from jobs.spec import EvalRecord, PhaseRecord, Record, StepRecord
from launcher.display.runs import step_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LINE_EVERY_SECONDS = 10.0
LARGE_BYTES = 16 << 20  # assumption: what is moved in a second or two needs no bar


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
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.fields[phase]:<13}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            console=_console(),
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


class Transfers:
    """What moves to and from a store (results.stores.Progress), where it is large."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._now: Transfer | None = None

    def begin(self, what: str, size_bytes: int) -> None:
        if size_bytes >= LARGE_BYTES:
            show = TransferBar if sys.stderr.isatty() else TransferLines
            self._now = show(what, size_bytes, self._say)

    def moved(self, size_bytes: int) -> None:
        if self._now is not None:
            self._now.moved(size_bytes)

    def end(self) -> None:
        if self._now is not None:
            self._now.end()
            self._now = None


class Transfer(Protocol):
    def moved(self, size_bytes: int) -> None: ...

    def end(self) -> None: ...


class TransferLines:
    """One line when it begins, one when it has ended."""

    def __init__(self, what: str, size_bytes: int, say: Callable[[str], None]) -> None:
        self._size, self._say = size_bytes, say
        self._moved = 0
        self._lock = threading.Lock()
        self._began = time.monotonic()
        say(f"{what}: {size_bytes / 1e6:,.0f} MB")

    def moved(self, size_bytes: int) -> None:
        with self._lock:
            self._moved += size_bytes

    def end(self) -> None:
        seconds = time.monotonic() - self._began
        self._say(f"{self._moved / 1e6:,.0f} of {self._size / 1e6:,.0f} MB in {seconds:.0f} s")


class TransferBar:
    """rich's progress bar on stderr, within the run's where that one stands."""

    def __init__(self, what: str, size_bytes: int, say: Callable[[str], None]) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left
        from rich.progress import TransferSpeedColumn as Speed

        columns = (BarColumn(bar_width=24), DownloadColumn(), Speed(), Left())
        text = TextColumn("{task.description}", markup=False)
        self._progress: Progress = Progress(text, *columns, console=_console())
        self._task: TaskID = self._progress.add_task(what, total=size_bytes)
        self._progress.start()

    def moved(self, size_bytes: int) -> None:
        self._progress.advance(self._task, size_bytes)

    def end(self) -> None:
        self._progress.stop()


@cache
def _console() -> "Console":
    """One for all bars: rich draws one within another only on the same console."""
    from rich.console import Console

    return Console(stderr=True)
