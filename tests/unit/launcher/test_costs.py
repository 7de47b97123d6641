import msgspec
import pytest

from launcher.costs import DISK_FLOOR_GIB, billed_seconds, cost_microusd, disk_gib
from launcher.types import GIB
from tests.unit.launcher.planning import an_estimate, cloud

ESTIMATE = an_estimate(9.0, (0.5, 1.0, 2.0))


@pytest.mark.parametrize(
    ("granularity", "minimum", "hours", "seconds"),
    [
        (1, 0, 0.5, 1800),
        (1, 60, 10 / 3600, 60),
        (60, 60, 61 / 3600, 120),
        (3600, 0, 1.01, 7200),
        (1, 0, 0.0, 0),
    ],
)
def test_seconds_are_rounded_up_to_what_is_billed(granularity, minimum, hours, seconds):
    offer = cloud("RTX4090", 0.74, billing_seconds=granularity, billing_minimum_seconds=minimum)
    assert billed_seconds(offer, hours) == seconds


def test_an_hour_costs_its_rate():
    assert cost_microusd(cloud("RTX4090", 0.74), ESTIMATE, 1.0) == 740_000


def test_a_part_of_a_microdollar_is_paid_whole():
    offer = cloud("RTX4090", 0, microusd_per_hour=1)
    assert cost_microusd(offer, ESTIMATE, 1 / 3600) == 1


def test_disk_is_billed_with_the_machine_and_egress_once():
    offer = cloud("RTX4090", 1.0, microusd_per_gib_disk_hour=100, microusd_per_gib_egress=90_000)
    egress_bytes = 4 * ESTIMATE.parameters_trainable + 64 * 2**20
    egress = -(-90_000 * egress_bytes // GIB)
    assert cost_microusd(offer, ESTIMATE, 2.0) == 2 * (1_000_000 + 100 * DISK_FLOOR_GIB) + egress


def test_a_large_model_rents_a_larger_disk():
    assert disk_gib(ESTIMATE) == DISK_FLOOR_GIB
    large = msgspec.structs.replace(ESTIMATE, disk_bytes=300 * GIB + 1)
    assert disk_gib(large) == 301


def test_this_machine_costs_nothing():
    assert cost_microusd(cloud("RTX4090", 0), ESTIMATE, 100.0) == 0
