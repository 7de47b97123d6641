"""When an attempt has to be over, from its plan alone."""

from datetime import UTC, datetime, timedelta
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.catalog.providers import LOCAL
from launcher.estimate.renting import teardown
from launcher.planning.costs import bill_microusd, egress_bytes, terms
from launcher.running.clock import (
    REACTION_SECONDS,
    at_its_price,
    clock,
    clock_of,
    rest,
    spent,
)
from launcher.types import GIB, MICROUSD, Attempt, Budget, Plan, Run

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


def attempt(number: int, started: datetime, gone: datetime | None, **terms: int) -> Attempt:
    return Attempt(
        attempt=number,
        started_at=started.isoformat(),
        executor="skypilot",
        handle=f"skypilot:loralift-a-{number}",
        provider="runpod",
        instance="x",
        **{"microusd_per_hour": DOLLARS_PER_HOUR, **terms},
        machine="UP" if gone is None else "GONE",
        gone_at=None if gone is None else gone.isoformat(),
    )


def a_run(*attempts: Attempt) -> Run:
    return Run(
        run_id="a",
        created_at=MADE.isoformat(),
        store="runs",
        state="RUNNING",
        reason=None,
        message=None,
        ended_at=None,
        folder=None,
        bucket="",
        attempts=attempts,
    )


def test_every_attempt_is_paid_from_its_request_on():
    tenth = timedelta(minutes=6)
    run = a_run(attempt(1, MADE, MADE + tenth), attempt(2, MADE + 2 * tenth, None))
    assert spent(run, MADE + 5 * tenth) == 4 * DOLLARS_PER_HOUR // 10


@given(
    rate=some.integers(0, 50_000_000),
    seconds=some.lists(some.floats(0, 40_000), min_size=1, max_size=4),
    unit=some.sampled_from([1, 60, 3600]),
    minimum=some.sampled_from([0, 60, 3600]),
    egress=some.integers(0, 2_000_000),
)
def test_what_is_shown_is_never_below_what_the_units_bill(rate, seconds, unit, minimum, egress):
    terms = {"microusd_per_hour": rate, "billing_seconds": unit, "egress_microusd": egress,
             "billing_minimum_seconds": minimum}  # fmt: skip
    held = [timedelta(seconds=s) for s in seconds]
    run = a_run(*(attempt(i + 1, MADE, MADE + h, **terms) for i, h in enumerate(held)))
    billed = 0
    for machine in (h.total_seconds() for h in held):
        if machine > 0:
            whole = max(minimum, unit * ceil(round(machine, 3) / unit))
            billed += rate * whole / 3600 + egress
    assert billed <= spent(run, MADE) <= billed + len(held)


def test_a_minute_begun_is_a_minute_and_one_that_never_was_is_none():
    by_the_minute = {"billing_seconds": 60, "billing_minimum_seconds": 120}
    second = timedelta(seconds=1)
    never = attempt(1, MADE, MADE, **by_the_minute, egress_microusd=90_000)
    short = attempt(2, MADE, MADE + second, **by_the_minute)
    longer = attempt(3, MADE, MADE + 121 * second, **by_the_minute, egress_microusd=90_000)
    assert spent(a_run(never), MADE) == 0
    assert spent(a_run(short), MADE) == -(-DOLLARS_PER_HOUR * 120 // 3600)
    assert spent(a_run(longer), MADE) == DOLLARS_PER_HOUR * 180 // 3600 + 90_000


def test_the_cap_is_held_with_whole_units_minimum_and_egress(plan):
    """An hour of 74 cents, a quarter of it for what leaves the machine, by the quarter of an hour:
    three quarters are left."""
    quarter = DOLLARS_PER_HOUR // 4
    chosen = plan.candidates[0]
    leaves = terms(chosen.offer, chosen.estimate)
    assert leaves.egress_microusd == 0
    size = egress_bytes(chosen.estimate)
    offer = msgspec.structs.replace(
        chosen.offer,
        billing_seconds=900,
        billing_minimum_seconds=1800,
        microusd_per_gib_egress=quarter * GIB // size,
    )
    chosen = msgspec.structs.replace(chosen, offer=offer)
    due = clock(plan, chosen, 0, MADE)
    assert due.paid_until == MADE + timedelta(minutes=45)
    cost = bill_microusd(terms(offer, chosen.estimate), 45 * 60)
    assert DOLLARS_PER_HOUR - 10 <= cost <= DOLLARS_PER_HOUR
    beyond = clock(plan, chosen, 2 * quarter, MADE)  # a quarter is left: less than the minimum
    assert beyond.paid_until == MADE


def test_an_attempt_is_held_to_the_price_it_was_started_at(plan):
    dearer = attempt(1, MADE, None, microusd_per_hour=2 * DOLLARS_PER_HOUR)
    found = at_its_price(plan, msgspec.structs.replace(dearer, price_as_of="2026-11-22"))
    assert found.offer.microusd_per_hour == 2 * DOLLARS_PER_HOUR
    assert found.offer.as_of == "2026-11-22"
    assert clock_of(plan, a_run(dearer)).paid_until == MADE + timedelta(minutes=30)
