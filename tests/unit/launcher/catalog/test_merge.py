import msgspec
import pytest

from launcher.catalog.merge import age_days, covers, merged, without_ahead
from launcher.catalog.priced import Listing
from tests.unit.launcher.plans import cloud

OLD = cloud("A10G", 1.0, "aws", instance="g5.xlarge", region="us-east-1", as_of="2026-01-01")
NEW = msgspec.structs.replace(OLD, as_of="2026-06-01", microusd_per_hour=2_000_000)


def listing(*offers):
    return Listing(tuple(offers), ())


@pytest.mark.parametrize("order", [1, -1])
def test_the_newer_price_wins(order):
    found = merged([listing(OLD), listing(NEW)][::order])
    assert found.offers == (NEW,)
    assert [d.reason for d in found.dropped] == ["superseded by the price of 2026-06-01"]


def test_of_one_day_the_later_source_wins():
    other = msgspec.structs.replace(OLD, microusd_per_hour=5)
    assert merged([listing(OLD), listing(other)]).offers == (other,)


def test_of_one_source_and_day_the_dearer_wins():
    dearer = msgspec.structs.replace(OLD, microusd_per_hour=9_000_000)
    assert merged([listing(dearer, OLD)]).offers == (dearer,)


def test_spot_and_another_region_are_other_things():
    spot = msgspec.structs.replace(OLD, spot=True, microusd_per_hour=300_000)
    west = msgspec.structs.replace(OLD, region="us-west-2")
    assert set(merged([listing(OLD, spot), listing(west)]).offers) == {OLD, spot, west}


@pytest.mark.parametrize("region", ["any", "us-*"])
def test_a_newer_price_of_a_region_replaces_an_older_one_for_several(region):
    several = msgspec.structs.replace(OLD, region=region)
    assert merged([listing(several), listing(NEW)]).offers == (NEW,)


@pytest.mark.parametrize("region", ["any", "us-*"])
def test_a_newer_price_for_several_replaces_older_ones_of_regions(region):
    several = msgspec.structs.replace(NEW, region=region)
    west = msgspec.structs.replace(OLD, region="us-west-2")
    found = merged([listing(several), listing(OLD, west)])
    assert found.offers == (several,)
    assert len(found.dropped) == 2


def test_a_pattern_leaves_other_regions_alone():
    several = msgspec.structs.replace(NEW, region="us-*")
    europe = msgspec.structs.replace(OLD, region="eu-west-1")
    assert set(merged([listing(several), listing(europe)]).offers) == {several, europe}


def test_what_covers_what():
    assert covers("any", "x")
    assert covers("us-*", "us-east-1")
    assert not covers("us-east-1", "us-*")
    assert not covers("us-*", "eu-west-1")


def test_age_is_counted_in_days():
    assert age_days(OLD, "2026-01-31") == 30


def test_a_price_of_tomorrow_is_new_and_no_younger_than_that():
    assert age_days(OLD, "2025-12-31") == 0
    assert without_ahead(listing(OLD), "2025-12-31") == listing(OLD)


def test_a_price_dated_ahead_of_the_clock_is_dropped_and_replaces_none():
    found = merged([without_ahead(listing(OLD, NEW), "2026-03-01"), listing()])
    assert found.offers == (OLD,)
    (dropped,) = found.dropped
    assert dropped.reason.startswith("dated 2026-06-01, and this machine's clock says 2026-03-01")
    assert (dropped.provider, dropped.instance, dropped.rows) == ("aws", "g5.xlarge", 1)
