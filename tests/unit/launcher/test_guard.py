"""When an attempt has to be over, from its plan alone."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from launcher.catalog.providers import LOCAL
from launcher.estimate.renting import teardown
from launcher.running.clock import REACTION_SECONDS, clock, rest, spent
from launcher.types import MICROUSD, Attempt, Budget, Plan, Run

MADE = datetime(2026, 11, 21, tzinfo=UTC)
CLOSING = timedelta(seconds=teardown(5)[0].high)
REACTION = timedelta(seconds=REACTION_SECONDS)
DOLLARS_PER_HOUR = 740_000  # the fixture's offer


@pytest.fixture
def plan(small_plan: Plan) -> Plan:
    """A cap of 74 cents, one hour; the price is of the same day."""
    (chosen, *others) = small_plan.candidates
    offer = msgspec.structs.replace(chosen.offer, as_of="2026-11-21")
    return msgspec.structs.replace(
        small_plan,
        budget=Budget(max_cost_microusd=DOLLARS_PER_HOUR),
        candidates=(msgspec.structs.replace(chosen, offer=offer), *others),
    )


def test_the_whole_cap_is_an_hour_the_end_of_it_reserved(plan):
    due = clock(plan, plan.candidates[0], 0, MADE)
    assert due.stop_at == MADE + timedelta(hours=1) - CLOSING
    assert due.end_at == MADE + timedelta(hours=1) - REACTION
    assert due.paid_until == MADE + timedelta(hours=1)


def test_what_earlier_attempts_took_is_gone(plan):
    """Half the cap is spent after half an hour: the other half pays for half an hour from then."""
    later = MADE + timedelta(minutes=30)
    due = clock(plan, plan.candidates[0], DOLLARS_PER_HOUR // 2, later)
    assert due.end_at == MADE + timedelta(hours=1) - REACTION
    assert clock(plan, plan.candidates[0], 2 * DOLLARS_PER_HOUR, later).end_at < later


def test_hours_count_from_the_plan_whatever_attempt_it_is(plan):
    budget = Budget(max_cost_microusd=100 * MICROUSD, max_hours=2.0)
    plan = msgspec.structs.replace(plan, budget=budget)
    for started in (MADE, MADE + timedelta(minutes=90)):
        due = clock(plan, plan.candidates[0], 0, started)
        assert due.end_at == MADE + timedelta(hours=2) - REACTION
        assert due.stop_at == MADE + timedelta(hours=2) - CLOSING


def test_an_older_price_may_have_risen(plan):
    chosen = plan.candidates[0]
    older = msgspec.structs.replace(chosen.offer, as_of="2026-08-23")  # 90 days: 29 % more
    due = clock(plan, msgspec.structs.replace(chosen, offer=older), 0, MADE)
    hours = (due.end_at + REACTION - MADE) / timedelta(hours=1)
    assert hours == pytest.approx(1 / 1.29, abs=0.001)


def test_this_machine_needs_no_time_to_end(plan):
    chosen = plan.candidates[0]
    here = msgspec.structs.replace(chosen.offer, provider=LOCAL)
    due = clock(plan, msgspec.structs.replace(chosen, offer=here), 0, MADE)
    assert due.stop_at == due.end_at == MADE + timedelta(hours=1)


def test_the_rest_of_a_cap_is_never_less_than_nothing():
    assert rest(Budget(max_cost_microusd=10), 4).max_cost_microusd == 6
    assert rest(Budget(max_cost_microusd=10), 11).max_cost_microusd == 0
    assert rest(Budget(max_cost_microusd=None), 11).max_cost_microusd is None


def test_every_attempt_is_paid_from_its_request_on():
    def attempt(number: int, started: datetime, gone: datetime | None) -> Attempt:
        return Attempt(
            attempt=number,
            started_at=started.isoformat(),
            executor="skypilot",
            handle=f"skypilot:loralift-a-{number}",
            provider="runpod",
            instance="x",
            microusd_per_hour=DOLLARS_PER_HOUR,
            machine="UP" if gone is None else "GONE",
            gone_at=None if gone is None else gone.isoformat(),
        )

    tenth = timedelta(minutes=6)
    run = Run(
        run_id="a",
        created_at=MADE.isoformat(),
        store="runs",
        state="RUNNING",
        reason=None,
        message=None,
        ended_at=None,
        folder=None,
        bucket="",
        attempts=(attempt(1, MADE, MADE + tenth), attempt(2, MADE + 2 * tenth, None)),
    )
    assert spent(run, MADE + 5 * tenth) == 4 * DOLLARS_PER_HOUR // 10
