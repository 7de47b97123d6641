"""Who works in a run's folder: a lock that lives as long as its holder, and no longer."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobs import layout
from launcher.errors import OutsideFailed

# For who starts a job: another may be copying home what the attempt before it left.
TO_START_SECONDS = 60.0


def wait(until: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (done := until()) and time.monotonic() < deadline:
        time.sleep(every)
    return done


def taken(file: int) -> bool:
    """Whether the open file's lock is this process's now; as long as one of its copies is open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def hold(work: Path, seconds: float) -> Iterator[int]:
    """Hold the folder; gives the lock's file descriptor. Raises OutsideFailed if another does."""
    with open(work / layout.LOCK, "a") as lock:
        # Someone who only looks holds it for an instant: ask again before giving up.
        if not wait(lambda: taken(lock.fileno()), seconds):
            raise OutsideFailed(
                f"another process is at work in {work}; wait for it, or cancel the run"
            )
        yield lock.fileno()


@contextlib.contextmanager
def collecting(work: Path, seconds: float) -> Iterator[None]:
    """Hold the folder to take it home; one that is gone already is nobody's. As `hold`."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):  # someone was faster and took it home
            stack.enter_context(hold(work, seconds))
        yield
