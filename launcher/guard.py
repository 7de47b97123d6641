"""Spend against the cap, from this side: what should not be running any more is ended.

The job's machine holds the cap by itself (jobs/watchdog.py, then SkyPilot's autodown). This is the
other side: the launcher that follows a run asks here at every look, and `launch guard` does for
all runs, from cron or from any terminal. Each side alone keeps the bill within the cap.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from launcher.catalog.providers import LOCAL
from launcher.costs import affordable_hours, job_hours
from launcher.errors import OutsideFailed
from launcher.estimate.hours import DOWN_SECONDS
from launcher.executors import executor
from launcher.ledger import Ledger, MachineChanged, StateChanged
from launcher.reconciling import open_machines, reconcile, stamp, utc_now
from launcher.types import Attempt, Budget, Candidate, Plan, Run
from results.receipt import spend_microusd

ROUND_SECONDS = 60.0  # as often as cron can
# The machine's own end, after a round that came just too early.
REACTION_SECONDS = DOWN_SECONDS.high + ROUND_SECONDS
# The job stops itself at its deadline; only one that did not is told from here.
LATE_SECONDS = 30.0


class Clock(NamedTuple):
    """The latest moments of one attempt."""

    stop_at: datetime  # the job has been told to stop, and saves
    end_at: datetime  # its machine is ended, whatever is on it


def clock(made: Plan, candidate: Candidate, spent_microusd: int, started: datetime) -> Clock:
    """When an attempt must stop that starts (asks for its machine) at `started`, after others that
    took `spent_microusd`. Pure.

    At the highest rate that the offer may be charged; --max-hours counts from the plan, and no
    later attempt moves it.
    """
    budget = rest(made.budget, spent_microusd)
    today = made.created_at[:10]
    latest = datetime.fromisoformat(made.created_at) + timedelta(hours=budget.max_hours)
    whole = timedelta(hours=affordable_hours(candidate, budget, today))
    working = timedelta(hours=job_hours(candidate, budget, today))
    end_at = min(started + whole, latest)
    if candidate.offer.provider == LOCAL:
        return Clock(end_at, end_at)
    closing = whole - working
    return Clock(end_at - closing, end_at - timedelta(seconds=REACTION_SECONDS))


def rest(budget: Budget, spent_microusd: int) -> Budget:
    """What the cap still allows."""
    cap = budget.max_cost_microusd
    left = None if cap is None else max(0, cap - spent_microusd)
    return msgspec.structs.replace(budget, max_cost_microusd=left)


def spent(run: Run, now: datetime) -> int:
    """Micro-dollars over all attempts, machines still up counted to `now`."""
    return sum(_spent(attempt, now) for attempt in run.attempts)


def _spent(attempt: Attempt, now: datetime) -> int:
    return spend_microusd(attempt.microusd_per_hour, attempt.seconds(now))


def clock_of(made: Plan, run: Run) -> Clock:
    """That of the run's latest attempt."""
    *before, last = run.attempts
    taken = sum(_spent(attempt, utc_now()) for attempt in before)
    started = datetime.fromisoformat(last.started_at)
    return clock(made, made.candidates[last.candidate], taken, started)


def enforce(book: Ledger, run: Run) -> str | None:
    """End what the limits no longer allow; what was done, in a line. Raises OutsideFailed."""
    last = run.attempts[-1]
    made = book.plan(run.run_id)
    if last.machine == "GONE" or last.provider == LOCAL:
        return None
    due, now, runner = clock_of(made, run), utc_now(), executor(last.executor)
    if now >= due.end_at:
        book.append(run.run_id, stamp(now), MachineChanged(attempt=last.attempt, state="ENDING"))
        runner.release(last.handle)
        message = f"ended from here at {now:%H:%M:%S} UTC, before the cap was reached"
        exceeded = StateChanged(
            attempt=last.attempt, state="FAILED", reason="BUDGET_EXCEEDED", message=message
        )
        gone = MachineChanged(attempt=last.attempt, state="GONE")
        book.append(run.run_id, stamp(utc_now()), gone, *([] if run.ended else [exceeded]))
        return f"{run.run_id}: its machine is ended, the cap would be reached"
    if not run.ended and now >= due.stop_at + timedelta(seconds=LATE_SECONDS):
        runner.stop(last.handle)
        return f"{run.run_id}: told to stop, its deadline has passed"
    return None


def round_of(book: Ledger) -> Iterator[str]:
    """One round over every run that may still cost money: what was found and done, in lines."""
    for run in book.runs():
        if not open_machines(run):
            continue
        try:
            found = reconcile(book, run)
            yield enforce(book, found) or _standing(book, found)
        except OutsideFailed as error:
            yield _last_resort(book, run, str(error))


def watch(book: Ledger) -> Iterator[str]:
    """Rounds, one a minute, until nothing may cost money any more."""
    yield from round_of(book)
    while any(open_machines(run) for run in book.runs()):
        time.sleep(ROUND_SECONDS)
        yield from round_of(book)


def _standing(book: Ledger, run: Run) -> str:
    if not open_machines(run):
        return f"{run.run_id}: {run.state}, its machine is gone"
    due = clock_of(book.plan(run.run_id), run)
    return f"{run.run_id}: {run.state}, ended at {due.end_at:%Y-%m-%d %H:%M:%S} UTC at the latest"


def _last_resort(book: Ledger, run: Run, why: str) -> str:
    """Even what cannot be looked at is ended in time."""
    try:
        return enforce(book, run) or f"{run.run_id}: {why}"
    except OutsideFailed as error:
        return f"{run.run_id}: CANNOT BE ENDED: {error}"
