"""Spend against the cap, from this side: what should not be running any more is ended.

The job's machine holds the cap by itself (jobs/watchdog.py, then SkyPilot's autodown). This is the
other side: the launcher that follows a run asks here at every look, and `launch guard` does for
all runs, from cron or from any terminal. Each side alone keeps the bill within the cap.
"""

import time
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta

from jobs.spec import Failure
from launcher.catalog.providers import LOCAL
from launcher.errors import one_line
from launcher.events import MachineChanged, StateChanged
from launcher.executors import executor
from launcher.executors.base import Sight
from launcher.ledger import Ledger
from launcher.running.clock import ROUND_SECONDS, clock_of, utc_now
from launcher.running.finishing import released
from launcher.running.reconciling import open_machines, reconcile
from launcher.times import stamp
from launcher.types import Run

# The job stops itself at its deadline; only one that did not is told from here.
LATE_SECONDS = 30.0


def enforce(book: Ledger, run: Run) -> str | None:
    """End what the limits no longer allow; what was done, in a line. Raises OutsideFailed."""
    last = run.attempts[-1]
    if last.machine == "GONE" or last.provider == LOCAL:
        return None
    if last.machine == "UNKNOWN" and last.attempt <= book.adopted(run.run_id):
        return None  # to be ended where it was launched: here SkyPilot may not know it
    due, now, runner = clock_of(book.plan(run.run_id), run), utc_now(), executor(last.executor)
    if now >= due.end_at:
        end(book, run, f"ended from here at {now:%H:%M:%S} UTC, before the cap was reached")
        return f"{run.run_id}: its machine is ended, the cap would be reached"
    if not run.ended and now >= due.stop_at + timedelta(seconds=LATE_SECONDS):
        message = f"told to stop from here: the deadline {due.stop_at:%H:%M:%S} UTC has passed"
        runner.stop(last.handle, Failure(reason="DEADLINE", message=message))
        return f"{run.run_id}: told to stop, its deadline has passed"
    return None


def end(book: Ledger, run: Run, message: str) -> None:
    """End the run's machine, whatever is on it. Raises OutsideFailed."""
    last = run.attempts[-1]
    ending = MachineChanged(attempt=last.attempt, state="ENDING")
    book.append(run.run_id, stamp(utc_now()), ending)
    exceeded = StateChanged(
        attempt=last.attempt, state="FAILED", reason="BUDGET_EXCEEDED", message=message
    )
    released(book, run, last, UNSEEN, exceeded)


# What is known of a job that is ended without a look.
UNSEEN = Sight(alive=False, started=True, result=None, billed=True)


def round_of(book: Ledger) -> Iterator[str]:
    """One round over every run that may still cost money: what was found and done, in lines.

    What is due is ended first: looking at the others may take minutes.
    """
    for what in (enforce, _looked_at):
        for run in book.runs():
            said = _tried(book, run.run_id, what)
            if said is not None:
                yield said


def _tried(book: Ledger, run_id: str, what: Callable[[Ledger, Run], str | None]) -> str | None:
    """One run's trouble is not the others'; and the one before may have taken minutes, in which
    this one's machine may have become another's."""
    try:
        run = book.run(run_id)
        return what(book, run) if open_machines(run) else None
    except Exception as error:
        return f"{run_id}: {one_line(error)}"


def _looked_at(book: Ledger, run: Run) -> str:
    return _standing(book, reconcile(book, run))


def watch(book: Ledger, then: Callable[[Ledger], Iterator[str]]) -> Iterator[str]:
    """Rounds, one a minute, and what comes after each, until nothing may cost money any more,
    nothing came, and no climb or portfolio waits to go on: what it starts is to be held too. A
    round that fails is said, and the next one comes: nobody else may hold the cap."""
    while True:
        try:
            if not (yield from _round_and(book, then)):
                return
        except Exception as error:
            yield f"this round broke off, the next one is in a minute: {one_line(error)}"
        time.sleep(ROUND_SECONDS)


def _round_and(book: Ledger, then: Callable[[Ledger], Iterator[str]]) -> Generator[str, None, bool]:
    """One round, what comes after it, and whether another is wanted."""
    yield from round_of(book)
    came = list(then(book))
    yield from came
    open_now = any(open_machines(run) for run in book.runs())
    return bool(came or open_now or book.undecided() or book.going_on())


def _standing(book: Ledger, run: Run) -> str:
    if not open_machines(run):
        return f"{run.run_id}: {run.state}, its machine is gone"
    due = clock_of(book.plan(run.run_id), run)
    return f"{run.run_id}: {run.state}, ended at {due.end_at:%Y-%m-%d %H:%M:%S} UTC at the latest"
