import pytest

from launcher.catalog.enabled import Check
from launcher.catalog.priced import Dropped
from launcher.catalog.refresh import Known, compared
from launcher.display.catalog import dropped_text, offers_text, refreshed_text
from tests.unit.launcher.plans import cloud, local

CHECK = Check(
    checked_at="2026-11-20T10:00:00+00:00",
    skypilot="0.14.1",
    enabled=("runpod",),
    disabled={"aws": "no credentials", "gcp": "none either", "ssh": "none"},
)
EAST = cloud("A10G", 1.0, "aws", instance="g5.xlarge", region="us-east-1", as_of="2026-11-01")
WEST = cloud("A10G", 1.2, "aws", instance="g5.xlarge", region="us-west-2", as_of="2026-11-01")
SPOT = cloud("A10G", 0.4, "aws", instance="g5.xlarge", region="us-west-2", spot=True)
OFFERS = [EAST, WEST, SPOT, local("cpu", 8)]


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_one_line_an_instance_with_both_prices():
    text = offers_text(OFFERS, [], None, "2026-11-21")
    assert cells(text, "aws")[:9] == [
        "aws", "g5.xlarge", "us-east-1 +1", "A10G", "1", "22.4", "1.000", "0.400 us-west-2", "20 d"
    ]  # fmt: skip
    assert text.splitlines()[2].startswith("local")  # this machine first


def test_a_line_for_each_region():
    text = offers_text(OFFERS, [], None, "2026-11-21", every_region=True)
    lines = [line for line in text.splitlines() if line.startswith("aws")]
    assert [line.split()[2] for line in lines] == ["us-east-1", "us-west-2"]
    assert [line.split()[6:8] for line in lines] == [["1.000", "20"], ["1.200", "0.400"]]


def test_a_price_that_holds_in_several_regions_says_how_many():
    text = offers_text([cloud("L4", 0.5, regions=("IN", "US"))], [], None, "2026-11-21")
    assert "any (2)" in text


def test_unknown_is_said_to_be_unknown():
    text = offers_text([EAST], [], None, "2026-11-21")
    assert "unknown" in text
    assert "launch offers --refresh asks SkyPilot" in text


def test_what_to_do_for_those_that_are_shown_and_not_enabled():
    text = offers_text([EAST], [], CHECK, "2026-11-21")
    assert "enabled as of 2026-11-20: runpod" in text
    assert "to enable aws: aws configure" in text
    assert "to enable ssh" in text
    assert "gcp" not in text


def test_dropped_rows_are_counted_and_listed():
    entries = [
        Dropped("aws", "a", "r", "T4", "one reason", "a list", 2),
        Dropped("aws", "b", "3 regions", "L4", "another", "a list", 1003),
    ]
    text = dropped_text(entries)
    assert text.index("another") < text.index("one reason")
    assert text.endswith("1,005 rows\n")
    assert "1,005 rows of the price lists are not offered" in offers_text([], entries, None, "x")
    assert dropped_text([]) == "every row is offered\n"


def known(usd: float, instance: str = "g5.xlarge") -> Known:
    return Known("aws", instance, "us-east-1", False, "A10G", 1, round(usd * 1e6), "2026-11-01")


def test_moves_are_shown_old_and_new():
    found = compared([known(1.0)], [known(1.29)], CHECK, {"gcp": "no network"}, "the last refresh")
    text = refreshed_text(found)
    assert "against the last refresh: 1 prices moved, 0 are new, 0 are gone" in text
    assert cells(text, "aws")[-4:] == ["1.000", "1.290", "+29.0 %", "2026-11-01 → 2026-11-01"]
    assert "WARNING gcp: what it has could not be read anew: no network" in text


@pytest.mark.parametrize("count", [0, 41])
def test_many_moves_are_cut_and_counted(count):
    before = [known(1.0, str(i)) for i in range(count)]
    text = refreshed_text(
        compared(before, [known(2.0, str(i)) for i in range(count)], CHECK, {}, "")
    )
    assert ("1 more" in text) is (count > 40)
