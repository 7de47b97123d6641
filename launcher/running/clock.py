"""Until when a run may go on, and what it has cost so far."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from launcher.catalog.providers import LOCAL
from launcher.estimate.renting import DOWN_SECONDS
from launcher.planning.costs import (
    affordable_hours,
    bill_microusd,
    disk_microusd_per_hour,
    job_hours,
)
from launcher.types import Attempt, Budget, Candidate, Plan, Run

ROUND_SECONDS = 60.0  # as often as cron can
# The machine's own end, after a round that came just too early.
REACTION_SECONDS = DOWN_SECONDS.high + ROUND_SECONDS


def utc_now() -> datetime:
    return datetime.now(UTC)


class Clock(NamedTuple):
    """The latest moments of one attempt."""

    stop_at: datetime  # the job has been told to stop, and saves
    end_at: datetime  # its machine is ended, whatever is on it
    paid_until: datetime  # what that takes has been paid for, too


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
    paid_until = min(started + whole, latest)
    if candidate.offer.provider == LOCAL:
        return Clock(paid_until, paid_until, paid_until)
    closing, reaction = whole - working, timedelta(seconds=REACTION_SECONDS)
    return Clock(paid_until - closing, paid_until - reaction, paid_until)


def rest(budget: Budget, spent_microusd: int) -> Budget:
    """What the cap still allows."""
    cap = budget.max_cost_microusd
    left = None if cap is None else max(0, cap - spent_microusd)
    return msgspec.structs.replace(budget, max_cost_microusd=left)


def spent(run: Run, now: datetime) -> int:
    """Micro-dollars over all attempts as their providers bill them, machines still up counted to
    `now`."""
    return sum(_spent(attempt, now) for attempt in run.attempts)


def _spent(attempt: Attempt, now: datetime) -> int:
    return bill_microusd(attempt, attempt.seconds(now))


def at_its_price(made: Plan, attempt: Attempt) -> Candidate:
    """The attempt's candidate of the plan, at the price that the attempt was started at."""
    candidate = made.candidates[attempt.candidate]
    offer, estimate = candidate.offer, candidate.estimate
    assert estimate is not None, "what was started has an estimate"
    offer = msgspec.structs.replace(
        offer,
        microusd_per_hour=attempt.microusd_per_hour - disk_microusd_per_hour(offer, estimate),
        as_of=attempt.price_as_of or offer.as_of,
    )
    return msgspec.structs.replace(candidate, offer=offer)


def clock_of(made: Plan, run: Run) -> Clock:
    """That of the run's latest attempt."""
    *before, last = run.attempts
    taken = sum(_spent(attempt, utc_now()) for attempt in before)
    started = datetime.fromisoformat(last.started_at)
    return clock(made, at_its_price(made, last), taken, started)
