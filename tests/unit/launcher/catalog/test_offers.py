import csv
from collections import Counter
from datetime import date
from pathlib import Path

import msgspec
import pytest

from launcher.catalog import offers as module
from launcher.catalog.gpus import gpu
from launcher.catalog.merge import merged
from launcher.catalog.offers import Row, embedded_offers, read_rows, sanitise, snapshot
from launcher.catalog.providers import PROVIDERS

FILE = Path(module.__file__).with_name("offers.csv")
ROW = Row(
    provider="runpod",
    instance="1x_RTX4090_SECURE",
    region="any",
    gpu="RTX4090",
    count="1",
    usd_per_gpu_hour="0.74",
    kind="on-demand",
    provisionable="yes",
    as_of="2026-09-25",
    as_of_basis="stated",
    source="a list",
    note="",
)


def one(**changes: str):
    return sanitise([msgspec.structs.replace(ROW, **changes)])


def test_the_file_reads_the_same_with_the_csv_module():
    with FILE.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == Row.__struct_fields__
    assert [tuple(r) for r in rows] == [
        msgspec.structs.astuple(r) for r in read_rows(FILE.read_text())
    ]


# The day on which the snapshot was put together: no price in it can be younger.
SNAPSHOT_OF = date(2026, 11, 21)
ROWS = read_rows(FILE.read_text())


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.instance}-{r.region}-{r.kind}-{r.as_of}")
def test_every_row_of_the_file_is_well_formed(row):
    assert row.provider in PROVIDERS
    assert gpu(row.gpu)
    assert row.instance
    assert row.region
    assert int(row.count) in (1, 2, 4, 8)
    assert row.kind in ("on-demand", "spot", "cheapest listed")
    assert row.provisionable in ("yes", "no")
    assert row.as_of_basis in ("stated", "earliest", "unknown")
    assert (row.as_of == "") is (row.as_of_basis == "unknown")
    assert row.source
    if row.as_of:
        assert row.as_of == date.fromisoformat(row.as_of).isoformat()
        assert date.fromisoformat(row.as_of) <= SNAPSHOT_OF
    low, _, high = row.usd_per_gpu_hour.partition("-")
    # Dollars for one card: what was ever listed lies between a shared T4 and a B200.
    assert 0.05 < float(low) <= float(high or low) < 20
    assert bool(high) <= (row.kind == "spot")


def test_no_row_stands_twice():
    keys = [(r.provider, r.instance, r.region, r.kind, r.as_of, r.source) for r in ROWS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("offer", embedded_offers(), ids=lambda o: f"{o.instance}-{o.spot}")
def test_every_offer_is_priced_dated_known_and_sourced(offer):
    assert offer.microusd_per_hour > 0
    assert date.fromisoformat(offer.as_of) <= SNAPSHOT_OF
    assert gpu(offer.device.name).usable_bytes == offer.device.usable_bytes
    assert offer.source
    assert offer.origin == "snapshot"
    assert offer.count >= 1
    assert offer.minimum_driver == gpu(offer.device.name).minimum_driver != ""
    assert offer.architecture == "x86_64"


def test_no_offer_stands_twice():
    keys = [(o.provider, o.instance, o.region, o.spot) for o in embedded_offers()]
    assert len(keys) == len(set(keys))


def test_every_row_is_offered_or_dropped_with_a_reason():
    found = merged([snapshot()])
    assert len(found.offers) + len(found.dropped) == len(ROWS)
    assert Counter(entry.reason for entry in found.dropped) == {
        "no date: a price of unknown age is not offered": 5,
        "superseded by the price of 2026-11-09": 1,
    }


def test_community_prices_are_shown_but_no_executor_takes_them():
    community = [o for o in embedded_offers() if o.instance.endswith("COMMUNITY")]
    assert len(community) == 4
    assert {o.executor for o in community} == {None}
    assert {o.note for o in community} == {"SkyPilot cannot provision community"}


def test_runpod_and_lambda_cannot_stop_nor_mount_buckets():
    for offer in embedded_offers():
        if offer.provider in ("runpod", "lambda"):
            assert "stop" not in offer.capabilities
        if offer.provider == "runpod":
            assert "bucket_mounts" not in offer.capabilities


def test_eight_cards_cost_eight_times_the_card():
    (offer,) = [o for o in embedded_offers() if o.instance == "p4d.24xlarge"]
    assert offer.count == 8
    assert offer.microusd_per_hour == 21_957_642


def test_a_range_is_planned_at_its_upper_end():
    (offer,) = one(provider="aws", instance="g5.xlarge", gpu="A10G", kind="spot",
                   usd_per_gpu_hour="0.377-0.513").offers  # fmt: skip
    assert offer.microusd_per_hour == 513_000
    assert offer.spot
    assert "planned at the upper end" in offer.note


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"as_of": ""}, "no date"),
        ({"as_of": "November"}, "no date"),
        ({"provider": "nobody"}, "provider nobody"),
        ({"gpu": "RTX4090 Laptop GPU"}, "not in the table"),
        ({"count": "0.125"}, "not a whole card"),
        ({"count": "0"}, "not a whole card"),
        ({"usd_per_gpu_hour": "0"}, "no price"),
        ({"usd_per_gpu_hour": ""}, "no price"),
        ({"usd_per_gpu_hour": "0.5-0.4"}, "no price"),
        ({"provider": "lambda", "kind": "spot"}, "Lambda has no spot"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_dropped(changes, reason):
    found = one(**changes)
    assert found.offers == ()
    assert reason in found.dropped[0].reason


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_prices_the_newer_stays(order):
    old = msgspec.structs.replace(ROW, as_of="2026-01-01", usd_per_gpu_hour="0.10")
    found = merged([sanitise([old, ROW][::order])])
    assert [o.microusd_per_hour for o in found.offers] == [740_000]
    assert found.dropped[0].source == old.source
