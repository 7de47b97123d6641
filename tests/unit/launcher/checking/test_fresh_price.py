"""The rule over a price that was read again, and which price that is."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from launcher.catalog import clusters, refresh
from launcher.catalog.clusters import Asked, Share
from launcher.checking import fresh_price as module
from launcher.checking.fresh_price import (
    Asking,
    Askings,
    fresh_price,
    same_machine,
    still_holds,
)
from launcher.errors import OutsideFailed
from launcher.planning.costs import aged, bill_microusd, billed_seconds, terms
from launcher.types import GIB, MICROUSD, Budget, Candidate, Offer, Plan
from tests.unit.launcher.catalog.real_rows import place
from tests.unit.launcher.plans import cloud, dollars, planned

HOURLY = 0.5
TODAY = "2026-11-21"


def at(usd: float, offer: Offer, as_of: str = "2026-11-21") -> Offer:
    return msgspec.structs.replace(offer, microusd_per_hour=dollars(usd), as_of=as_of)


@pytest.fixture
def made() -> Plan:
    """Two cards under a cap of $4: 1 and 2 h expected, twice that at worst."""
    offers = [cloud("RTX4090", HOURLY), cloud("RTX3090", 0.6)]
    return planned(offers, Budget(max_cost_microusd=dollars(4)))


def repriced(made: Plan, usd: float, as_of: str = "2026-11-21") -> Candidate | str:
    assert made.chosen is not None
    now = at(usd, made.chosen.offer, as_of)
    return still_holds(made.chosen, now, made.budget, "2026-11-21")


def test_the_same_price_changes_nothing_but_its_date(made: Plan) -> None:
    assert made.chosen is not None
    assert repriced(made, HOURLY) == made.chosen
    found = repriced(made, HOURLY, "2026-11-22")
    assert isinstance(found, Candidate)
    assert found.offer.as_of == "2026-11-22"
    assert found.worst_microusd == made.chosen.worst_microusd


def test_a_rise_within_the_cap_is_the_new_rate(made: Plan) -> None:
    after = repriced(made, 0.9)
    before = made.chosen
    assert isinstance(after, Candidate)
    assert before is not None
    assert after.estimate is not None
    assert after.offer.microusd_per_hour == dollars(0.9)
    billed = terms(after.offer, after.estimate)
    worst = bill_microusd(billed, after.estimate.hours_high * 3600)
    assert after.worst_microusd == worst > before.worst_microusd
    assert after.reason.endswith("$0.500 an hour on 2026-11-21, $0.900 now")


def test_a_rise_past_the_cap_stops_it(made: Plan) -> None:
    found = repriced(made, 2.5)
    assert isinstance(found, str)
    assert "$0.500 an hour on 2026-11-21, $2.500 now" in found
    assert "worst $5 > cap $4" in found


def test_at_the_same_price_the_rest_of_a_cap_may_be_too_little(made: Plan) -> None:
    assert made.chosen is not None
    rest = Budget(max_cost_microusd=dollars(0.5))
    found = still_holds(made.chosen, made.chosen.offer, rest, "2026-11-21")
    assert found == "at $0.500 an hour: worst $1 > cap $0.50"


def test_the_cap_itself_is_within(made: Plan) -> None:
    assert made.chosen is not None
    assert made.chosen.estimate is not None
    billed = terms(made.chosen.offer, made.chosen.estimate)
    seconds = billed_seconds(billed, made.chosen.estimate.hours_high * 3600)
    most = dollars(4) * 3600 // seconds
    assert isinstance(repriced(made, most / MICROUSD), Candidate)
    assert isinstance(repriced(made, (most + 1) / MICROUSD), str)


def test_an_old_price_that_is_asked_again_no_longer_counts_as_risen() -> None:
    old = cloud("RTX4090", HOURLY, as_of="2026-06-01")
    made = planned([old], Budget(max_cost_microusd=dollars(4)))
    assert made.chosen is not None
    assert aged(old, "2026-11-21").microusd_per_hour > old.microusd_per_hour
    found = repriced(made, HOURLY)
    assert isinstance(found, Candidate)
    assert found.worst_microusd < made.chosen.worst_microusd


def test_what_goes_to_a_bucket_is_counted_at_the_new_price_too() -> None:
    offer = cloud("RTX4090", HOURLY, microusd_per_gib_egress=90_000)
    made = planned([offer], Budget(max_cost_microusd=dollars(40)))
    assert made.chosen is not None
    assert made.chosen.estimate is not None
    estimate = msgspec.structs.replace(made.chosen.estimate, mirrored_bytes=20 * GIB)
    chosen = msgspec.structs.replace(made.chosen, estimate=estimate)
    budget = msgspec.structs.replace(made.budget, to_bucket=True)
    found = still_holds(chosen, offer, budget, "2026-11-21")
    assert isinstance(found, Candidate)
    assert found.worst_microusd - made.chosen.worst_microusd == 20 * 90_000


def test_the_same_machine_is_of_one_region_and_kind() -> None:
    planned_there = cloud("A10G", 1.0, "aws", region="us-east-1")
    offers = (
        at(1.1, planned_there),
        at(0.9, cloud("A10G", 1.0, "aws", region="eu-west-1")),
        at(0.3, cloud("A10G", 1.0, "aws", region="us-east-1", spot=True)),
        at(0.2, cloud("A10G", 1.0, "aws", region="us-east-1", count=4)),
    )
    assert same_machine(planned_there, offers) == offers[0]
    assert same_machine(cloud("A10G", 1.0, "aws", region="us-west-2"), offers) is None


def test_where_a_region_stands_for_several_the_cheapest_counts() -> None:
    listed = tuple(
        at(usd, cloud("A10G", 1.0, "aws", region=region))
        for usd, region in ((1.2, "us-east-1"), (1.1, "us-west-2"), (0.9, "eu-west-1"))
    )
    anywhere, america = (cloud("A10G", 1.0, "aws", region=region) for region in ("any", "us-*"))
    assert same_machine(anywhere, listed) == listed[2]
    assert same_machine(america, listed) == listed[1]
    everywhere = (at(1.0, anywhere),)
    assert same_machine(listed[0], everywhere) == everywhere[0]


class Answering:
    """What SkyPilot's program would print, counted."""

    def __init__(self, **changes: object) -> None:
        self.times = 0
        known = {
            "version": "0.14.1",
            "enabled": ["lambda"],
            "disabled": {},
            "unread": {},
            "shares": (),
        }
        self.answer = refresh.Answer(**known | changes)

    def __call__(self, python: str, names: tuple[str, ...], seconds: float) -> refresh.Answer:
        self.times += 1
        assert names == ("lambda",)
        return self.answer


@pytest.fixture
def skypilot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Catalogs of real rows, and a SkyPilot that answers as told."""
    home = place(tmp_path)
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module.refresh, "skypilot_python", lambda: "python")

    def answers(**changes: object) -> Answering:
        answering = Answering(**changes)
        monkeypatch.setattr(module.refresh, "ask", answering)
        return answering

    return answers


@pytest.fixture
def candidate():
    offer = cloud("A6000", 0.5, "lambda", instance="gpu_1x_a6000", region="any")
    made = planned([offer], Budget(max_cost_microusd=dollars(10)))
    assert made.chosen is not None
    return made.chosen


def day_of(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / ".sky" / "catalogs" / "v8" / "lambda" / "vms.csv"


def test_the_price_is_that_of_skypilots_list(skypilot, candidate, catalog: Path) -> None:
    answering = skypilot()
    asking = Asking("lambda", day_of(catalog))
    found = fresh_price(candidate, asking)
    assert found.instance == "gpu_1x_a6000"
    assert found.origin == "SkyPilot"
    assert found.microusd_per_hour == dollars(1.09)
    assert fresh_price(candidate, asking) == found
    assert answering.times == 1  # one question, however many ask


def test_a_price_of_yesterday_is_not_fresh(skypilot, candidate, catalog: Path) -> None:
    skypilot(unread={"lambda": "no route to host"})
    os.utime(catalog, (1_700_000_000, 1_700_000_000))
    with pytest.raises(OutsideFailed, match=r"is of 2023-11-14 .* anew: no route to host"):
        fresh_price(candidate, Asking("lambda", "2026-11-21"))


def test_a_machine_that_is_listed_no_more(skypilot, candidate, catalog: Path) -> None:
    skypilot()
    offer = msgspec.structs.replace(candidate.offer, instance="gpu_1x_gone")
    gone = msgspec.structs.replace(candidate, offer=offer)
    with pytest.raises(OutsideFailed, match=r"gpu_1x_gone is not in SkyPilot's list"):
        fresh_price(gone, Asking("lambda", day_of(catalog)))


def test_a_partition_that_is_drained_says_so(monkeypatch) -> None:
    share = Share(
        provider="slurm", cluster="local", partition="rtx4090", accelerator="RTX4090", count=1,
        nodes=1, node_cpus=8, node_memory_gib=64, usd_per_hour=0.74, why_not="",
    )  # fmt: skip
    (offer,) = clusters.offered(Asked(asked_at=TODAY, skypilot="0", shares=(share,))).offers
    made = planned([offer], Budget(max_cost_microusd=dollars(10)))
    assert made.chosen is not None
    monkeypatch.setattr(module.refresh, "skypilot_python", lambda: "python")
    for why, price in (("", 0.8), ("its nodes take no jobs: down, drained or cordoned", 0.0)):
        now = msgspec.structs.replace(share, usd_per_hour=price, why_not=why)
        answer = refresh.Answer("0.14.1", ["slurm"], {}, {}, (now,))
        monkeypatch.setattr(module.refresh, "ask", lambda *_, answer=answer: answer)
        asking = Asking("slurm", TODAY)
        if not why:
            assert fresh_price(made.chosen, asking).microusd_per_hour == dollars(0.8)
            continue
        with pytest.raises(OutsideFailed, match="list any more: its nodes take no jobs: down, dra"):
            fresh_price(made.chosen, asking)


def test_a_provider_that_is_not_enabled_says_how(skypilot, candidate, catalog: Path) -> None:
    skypilot(enabled=[], disabled={"lambda": "no credentials"})
    with pytest.raises(OutsideFailed, match=r"no credentials; api_key = KEY in"):
        fresh_price(candidate, Asking("lambda", day_of(catalog)))


def test_a_skypilot_that_failed_is_not_asked_twice(monkeypatch, candidate) -> None:
    asked = []

    def nobody() -> str:
        asked.append(1)
        raise OutsideFailed("SkyPilot is not installed")

    monkeypatch.setattr(module.refresh, "skypilot_python", nobody)
    asking = Asking("lambda", "2026-11-21")
    for _ in range(2):
        with pytest.raises(OutsideFailed, match="not installed"):
            asking.answer()
    assert asked == [1]


def test_one_moment_has_one_question_a_provider_and_an_end(monkeypatch) -> None:
    askings = Askings("2026-11-21")
    assert askings.about("lambda") is askings.about("lambda")
    assert askings.about("lambda") is not askings.about("aws")
    now = time.monotonic() + module.SECONDS
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.refresh, "skypilot_python", lambda: "python")
    monkeypatch.setattr(module.refresh, "ask", lambda *_: pytest.fail("it was asked"))
    with pytest.raises(OutsideFailed, match="was not asked about Lambda: 180 s are over"):
        askings.about("lambda").answer()
