import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.planning.costs import (
    DISK_FLOOR_GIB,
    affordable_hours,
    aged,
    billed_seconds,
    cost_microusd,
    disk_gib,
    egress_bytes,
    expected_and_worst,
    terms,
    with_electricity,
)
from launcher.types import GIB, Budget, Candidate, DiskTerm
from tests.unit.launcher.plans import an_estimate, cloud, dollars, local

ESTIMATE = an_estimate(9.0, (0.5, 1.0, 2.0))


@pytest.mark.parametrize(
    ("granularity", "minimum", "hours", "seconds"),
    [
        (1, 0, 0.5, 1800),
        (1, 60, 10 / 3600, 60),
        (60, 60, 61 / 3600, 120),
        (3600, 0, 1.01, 7200),
    ],
)
def test_seconds_are_rounded_up_to_what_is_billed(granularity, minimum, hours, seconds):
    offer = cloud("RTX4090", 0.74, billing_seconds=granularity, billing_minimum_seconds=minimum)
    assert billed_seconds(terms(offer, ESTIMATE), hours * 3600) == seconds


def test_an_hour_costs_its_rate():
    assert cost_microusd(cloud("RTX4090", 0.74), ESTIMATE, 1.0) == 740_000


def test_a_part_of_a_microdollar_is_paid_whole():
    offer = cloud("RTX4090", 0, microusd_per_hour=1)
    assert cost_microusd(offer, ESTIMATE, 1 / 3600) == 1


def test_disk_is_billed_with_the_machine_and_egress_once():
    offer = cloud("RTX4090", 1.0, microusd_per_gib_disk_hour=100, microusd_per_gib_egress=90_000)
    leaves = 4 * ESTIMATE.parameters_trainable + 64 * 2**20
    egress = -(-90_000 * leaves // GIB)
    assert cost_microusd(offer, ESTIMATE, 2.0) == 2 * (1_000_000 + 100 * DISK_FLOOR_GIB) + egress


def test_a_machine_that_never_was_costs_nothing_whatever_the_minimum():
    offer = cloud("RTX4090", 1.0, billing_minimum_seconds=60, microusd_per_gib_egress=90_000)
    assert cost_microusd(offer, ESTIMATE, 0.0) == 0
    assert cost_microusd(offer, ESTIMATE, 1 / 3600) > 1_000_000 // 60


def test_checkpoints_leave_for_a_bucket_or_with_a_job_that_did_not_finish():
    kept = DiskTerm("checkpoints", 3 * GIB, "kept")
    other = DiskTerm("base model", 15 * GIB, "stays")
    estimate = msgspec.structs.replace(ESTIMATE, disk=(kept, other), mirrored_bytes=40 * GIB)
    home = egress_bytes(ESTIMATE)
    assert egress_bytes(estimate) == home
    assert egress_bytes(estimate, finished=False) == home + 3 * GIB
    assert egress_bytes(estimate, to_bucket=True) == home + 40 * GIB
    assert egress_bytes(estimate, to_bucket=True, finished=False) == home + 40 * GIB
    offer = cloud("RTX4090", 1.0, microusd_per_gib_egress=90_000)
    expected, worst = expected_and_worst(offer, estimate, "2026-11-21")
    assert worst - expected == 1_000_000 + 3 * 90_000  # an hour longer, checkpoints brought home


def test_a_cap_below_the_minimum_affords_nothing():
    offer = cloud("RTX4090", 3.6, billing_seconds=60, billing_minimum_seconds=600)
    candidate = Candidate(
        offer=offer, spec=None, estimate=ESTIMATE, expected_microusd=0, worst_microusd=0,
        verdict="possible", reason="",
    )  # fmt: skip
    ten_minutes = dollars(0.6)
    for cap, seconds in ((ten_minutes, 600), (ten_minutes - 1, 0), (ten_minutes + 59_999, 600)):
        budget = Budget(max_cost_microusd=cap)
        assert affordable_hours(candidate, budget, "2026-11-21") * 3600 == seconds


def test_a_large_model_rents_a_larger_disk():
    assert disk_gib(ESTIMATE) == DISK_FLOOR_GIB
    large = msgspec.structs.replace(ESTIMATE, disk_bytes=300 * GIB + 1)
    assert disk_gib(large) == 301


def test_this_machine_costs_nothing():
    assert cost_microusd(cloud("RTX4090", 0), ESTIMATE, 100.0) == 0


def test_or_its_electricity_where_that_is_set():
    rented, mine = cloud("RTX4090", 0.74), local("RTX4090", 23)
    assert with_electricity([rented, mine], Budget()) == (rented, mine)
    kept, paid = with_electricity([rented, mine], Budget(local_microusd_per_hour=135_000))
    assert kept == rented
    assert cost_microusd(paid, ESTIMATE, 2.0) == 270_000
    later = aged(msgspec.structs.replace(paid, as_of="2026-01-01"), "2026-11-21")
    assert later.microusd_per_hour == 135_000


@given(
    usd=some.floats(0.01, 60.0),
    cap=some.floats(0.1, 100.0),
    as_of=some.sampled_from(["2026-11-21", "2026-06-01", "2024-01-01"]),
    unit=some.sampled_from([1, 60, 3600]),
    minimum=some.sampled_from([0, 60, 3600]),
)
def test_the_hours_that_a_cap_affords_cost_no_more_than_it(usd, cap, as_of, unit, minimum):
    offer = cloud(
        "RTX4090", usd, as_of=as_of, billing_seconds=unit, billing_minimum_seconds=minimum,
        microusd_per_gib_disk_hour=137, microusd_per_gib_egress=90_000,
    )  # fmt: skip
    candidate = Candidate(
        offer=offer, spec=None, estimate=ESTIMATE, expected_microusd=0, worst_microusd=0,
        verdict="possible", reason="",
    )  # fmt: skip
    budget = Budget(max_cost_microusd=dollars(cap), max_hours=1e4)
    hours = affordable_hours(candidate, budget, "2026-11-21")
    risen = aged(offer, "2026-11-21")
    if hours:
        assert cost_microusd(risen, ESTIMATE, hours) <= dollars(cap)
    more = hours + 2 * unit / 3600
    assert cost_microusd(risen, ESTIMATE, more) > dollars(cap) or more >= 1e4
