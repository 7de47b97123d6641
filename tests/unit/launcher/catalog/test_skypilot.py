"""SkyPilot's files as they lie on the machine: found, dated, read once."""

import os
import time

import pytest

from launcher import paths
from launcher.catalog import skypilot
from launcher.catalog.priced import ANYWHERE
from tests.unit.launcher.catalog.real_rows import place, prices, text

DAY = 86_400


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def vms(provider: str):
    return paths.skypilot_catalogs() / provider / "vms.csv"


def test_without_catalogs_nothing_is_offered_and_nothing_written(tmp_path):
    assert skypilot.listing().offers == ()
    assert list(tmp_path.iterdir()) == []


def test_every_catalog_that_is_there_is_read(tmp_path):
    place(tmp_path)
    found = skypilot.listing()
    assert {o.provider for o in found.offers} == {
        "aws", "azure", "gcp", "lambda", "nebius", "runpod", "vast"
    }  # fmt: skip
    assert {o.origin for o in found.offers} == {"SkyPilot"}
    assert all(o.source == f"SkyPilot's catalog {o.provider}/vms.csv, as fetched"
               for o in found.offers)  # fmt: skip
    assert all(o.executor == "skypilot" and o.accelerator for o in found.offers)


def test_a_price_is_of_the_day_the_file_was_fetched(tmp_path):
    place(tmp_path, "lambda")
    os.utime(vms("lambda"), (0, 20_000 * DAY))
    assert {o.as_of for o in skypilot.listing().offers} == {"2024-10-04"}


def test_a_failed_fetch_makes_no_price_younger(tmp_path):
    """SkyPilot then sets the file's time to now; the checksum keeps the time of the prices."""
    place(tmp_path, "lambda")
    checksum = paths.skypilot_catalogs() / ".meta" / "lambda" / "vms.csv.md5"
    checksum.parent.mkdir(parents=True)
    checksum.write_text("of the prices")
    os.utime(checksum, (0, 20_000 * DAY))
    os.utime(vms("lambda"))
    assert {o.as_of for o in skypilot.listing().offers} == {"2024-10-04"}
    os.utime(vms("lambda"), (0, 19_999 * DAY))  # placed by hand since, and older
    assert {o.as_of for o in skypilot.listing().offers} == {"2024-10-03"}


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    place(tmp_path, "lambda")
    first = skypilot.listing()
    monkeypatch.setattr(skypilot, "read", None)  # calling it would fail
    assert skypilot.listing() == first
    monkeypatch.undo()
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vms("lambda").write_text(text("lambda").replace("1.09", "1.29"))
    os.utime(vms("lambda"), (0, time.time() + 10))
    (a6000,) = [o for o in skypilot.listing().offers if o.device.name == "A6000"]
    assert a6000.microusd_per_hour == 1_290_000


def test_what_was_kept_of_another_version_is_read_anew(tmp_path):
    place(tmp_path, "lambda")
    first = skypilot.listing()
    (paths.catalog_folder() / "lambda.msgpack").write_bytes(b"\x93not this")
    assert skypilot.listing() == first


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    place(tmp_path, "lambda")
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert len(skypilot.listing().offers) == 2


def test_zones_are_planned_at_the_dearest_of_those_with_a_discount():
    (spot,) = [p for p in prices("aws") if p.instance == "g6e.48xlarge" and p.spot]
    assert (spot.low_microusd, spot.high_microusd) == (3_414_800, 30_166_900)  # trap 9


def test_one_price_everywhere_is_one_offer():
    (price,) = [p for p in prices("runpod") if p.count == 1]
    assert (price.region, price.regions) == (ANYWHERE, ("IN", "JP", "US"))


def test_a_region_without_a_state_is_its_country():
    (price,) = [p for p in prices("vast") if p.card == "B200"]
    assert price.region == "US, NA"


def test_different_prices_stay_regions():
    found = {p.region: p.high_microusd for p in prices("azure") if p.card == "T4" and not p.spot}
    assert found == {"centralus": 594_000, "eastus": 526_000}


def test_an_instance_under_two_cards_is_the_smaller():
    rows = text("vast").splitlines()
    twin = next(row for row in rows if row.startswith("1x-A100_SXM4")).replace("40960", "81920")
    found, dropped = skypilot.read("vast", "\n".join([*rows, twin]))
    assert {p.card for p in found if p.instance == "1x-A100_SXM4-32-65536"} == {"A100-40GB"}
    assert any("also listed with A100-40GB" in entry.reason for entry in dropped)


def test_a_file_of_another_form_is_said_to_be_unread():
    found, (entry,) = skypilot.read("aws", "InstanceType,Price\na,1\nb,2\n")
    assert found == ()
    assert entry.rows == 2
    assert "no column AcceleratorName, AcceleratorCount, SpotPrice, Region" in entry.reason


def test_an_empty_file_is_said_to_be_unread():
    assert skypilot.read("aws", "")[1][0].rows == 1
