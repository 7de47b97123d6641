"""Which offer of a plan is taken, at which price, and what stops a submit."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from jobs.spec import Model
from launcher import preflight
from launcher.catalog import refresh
from launcher.checking import rentable
from launcher.checking.checks import Check, Question
from launcher.checking.fresh_price import Asking
from launcher.checking.taking import ready
from launcher.errors import BadInput, NothingFits, OutsideFailed
from launcher.types import GIB, Budget, Candidate, DiskTerm, Offer, Plan
from tests.unit.launcher.plans import JOB, cloud, dollars, local, planned

PAID = cloud("RTX4090", 0.5, capabilities=("autodown",))
OTHER = cloud("RTX3090", 0.6, "lambda", capabilities=("autodown",))

pytestmark = pytest.mark.usefixtures("apart")


def paid(*offers: Offer, usd: float = 4) -> Plan:
    return planned(list(offers or (PAID,)), Budget(max_cost_microusd=dollars(usd)))


class Usage(NamedTuple):
    free: int


def test_what_costs_nothing_gets_what_takes_no_time(tmp_path: Path, monkeypatch) -> None:
    made = planned([local("RTX4090", 23)], Budget())
    monkeypatch.setattr(preflight, "asked", lambda questions: pytest.fail("somebody was asked"))
    said: list[str] = []
    assert ready(made, str(tmp_path / "runs"), None, said.append) is made
    assert said == []


def test_a_free_run_that_is_to_be_published_needs_what_publishes_it_too() -> None:
    made = planned([local("RTX4090", 23)], Budget())
    with pytest.raises(BadInput, match="push: --hub me/adapter needs HF_TOKEN, which is not set"):
        ready(made, None, "me/adapter", lambda line: None)


def test_a_model_s_folder_without_weights_stops_a_free_run_too(tmp_path: Path) -> None:
    job = msgspec.structs.replace(JOB, model=Model(id=str(tmp_path)))
    made = planned([local("RTX4090", 23)], Budget(), job)
    with pytest.raises(BadInput, match=rf"model: {tmp_path} has no \.safetensors weights"):
        ready(made, None, None, lambda line: None)


def test_a_plan_without_a_choice_comes_back_as_it_is() -> None:
    nothing = planned([PAID], Budget(max_cost_microusd=1))
    assert ready(nothing, None, None, lambda line: None) is nothing


def test_a_store_that_cannot_be_written_stops_a_free_run_too(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    made = planned([local("RTX4090", 23)], Budget())
    with pytest.raises(BadInput, match=r"store: no file can be made in .*file: Not a directory"):
        ready(made, str(file), None, lambda line: None)


def test_a_disk_too_full_for_what_the_run_writes_is_an_outside_system(monkeypatch) -> None:
    terms = {"environment": 8, "base model": 15, "adapter": 1, "checkpoints": 2}
    disk = tuple(DiskTerm(name, size * GIB, "") for name, size in terms.items())
    made = planned([local("RTX4090", 23)], Budget())
    assert made.chosen is not None
    assert made.chosen.estimate is not None
    estimate = msgspec.structs.replace(made.chosen.estimate, disk=disk)
    chosen = msgspec.structs.replace(made.chosen, estimate=estimate)
    made = msgspec.structs.replace(made, candidates=(chosen, *made.candidates[1:]))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: Usage(3 * GIB))
    assert ready(made, None, None, lambda line: None) is made
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: Usage(3 * GIB - 1))
    with pytest.raises(OutsideFailed, match=r"disk: needs 3\.0 GiB, 3\.0 are free"):
        ready(made, None, None, lambda line: None)


def test_only_what_failed_outside_is_an_outside_failure(tmp_path: Path) -> None:
    with pytest.raises(OutsideFailed, match="SkyPilot is not installed"):
        ready(paid(), str(tmp_path), None, lambda line: None)
    with pytest.raises(BadInput) as failed:
        ready(paid(), str(tmp_path), "me/adapter", lambda line: None)
    assert "needs HF_TOKEN" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 3


def test_what_was_not_checked_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(OutsideFailed):
        ready(paid(), str(tmp_path), None, said.append)
    assert [line.split(":")[1].strip() for line in said[1:]] == [
        "driver", "data", "model", "price",
    ]  # fmt: skip


def test_a_doubt_about_the_data_is_said_before_anything_is_paid(tmp_path, monkeypatch) -> None:
    doubt = Check(name="data", state="ok", found="9 rows", next="8 questions: a")
    monkeypatch.setattr(preflight, "data_check", lambda spec: doubt)
    said: list[str] = []
    with pytest.raises(OutsideFailed):
        ready(paid(), str(tmp_path), None, said.append)
    assert "data: 9 rows; 8 questions: a" in said


def test_without_skypilot_it_is_said_once_of_all_that_is_rented() -> None:
    said: list[str] = []
    with pytest.raises(OutsideFailed, match="skypilot: SkyPilot is not installed"):
        ready(paid(PAID, OTHER), None, None, said.append)
    assert [line for line in said if "passed over" in line] == []
    budget = Budget(max_cost_microusd=dollars(4), local_microusd_per_hour=dollars(1.5))
    made = planned([PAID, OTHER, local("RTX4090", 23)], budget)
    assert [c.offer.provider for c in made.candidates] == ["runpod", "lambda", "local"]
    mine = ready(made, None, None, said.append)
    assert mine.chosen is not None
    assert mine.chosen.offer.provider == "local"


Priced = Callable[..., list[str]]


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> Priced:
    """All that is asked is answered well, but the price: as told by instance, else it is gone.
    Returns whose price was asked for."""

    def priced(**usd: float) -> list[str]:
        asked: list[str] = []

        def fresh(candidate: Candidate, asking: Asking) -> Offer:
            name = candidate.offer.device.name
            asked.append(name)
            if name not in usd:
                raise OutsideFailed(f"{name} is not in SkyPilot's list any more")
            now = {"microusd_per_hour": dollars(usd[name]), "as_of": asking.today}
            return msgspec.structs.replace(candidate.offer, **now)

        def answered(questions: list[Question]) -> list[Check]:
            return [
                Check(name=q.name, state="ok", found="") if q.name != "price" else q.ask()
                for q in questions
            ]

        monkeypatch.setattr(
            preflight, "credentials", lambda *_: Check(name="skypilot", state="ok", found="")
        )
        monkeypatch.setattr(preflight, "fresh_price", fresh)
        monkeypatch.setattr(rentable, "fresh_price", fresh)
        monkeypatch.setattr(preflight, "asked", answered)
        return asked

    return priced


def test_a_paid_plan_is_submitted_at_the_price_of_now(sound: Priced) -> None:
    sound(RTX4090=0.9)
    found = ready(paid(), None, None, lambda line: None)
    assert found.chosen is not None
    assert found.chosen.offer.microusd_per_hour == dollars(0.9)


def test_a_price_over_the_cap_stops_it(sound: Priced) -> None:
    sound(RTX4090=2.5)
    with pytest.raises(NothingFits, match=r"worst \$5 > cap \$4") as failed:
        ready(paid(), None, None, lambda line: None)
    assert "--max-cost" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 3


def test_electricity_is_asked_of_nobody(sound: Priced) -> None:
    asked = sound()
    budget = Budget(max_cost_microusd=dollars(4), local_microusd_per_hour=dollars(0.1))
    made = planned([local("RTX4090", 23)], budget)
    assert made.chosen is not None
    assert made.chosen.worst_microusd > 0
    assert ready(made, None, None, lambda line: None) == made
    assert asked == []


def test_what_is_gone_or_grown_dear_is_passed_over_in_a_line_each(sound: Priced) -> None:
    third = cloud("A10G", 0.9, "aws", capabilities=("autodown",))
    sound(RTX3090=4.0, A10G=1.0)
    made = paid(PAID, OTHER, third, usd=6)
    names = [c.offer.device.name for c in made.candidates]
    assert names[:3] == ["RTX4090", "RTX3090", "A10G"]
    said: list[str] = []
    found = ready(made, None, None, said.append)
    assert found.chosen is not None
    assert found.chosen.offer.device.name == "A10G"
    assert found.chosen.offer.microusd_per_hour == dollars(1.0)
    assert "2 before it passed over" in found.chosen.reason
    assert found.fallbacks == ()
    assert [c.verdict for c in found.candidates[-2:]] == ["rejected", "rejected"]
    passed = [line for line in said if "is passed over" in line]
    assert passed[0] == (
        "RunPod 1x_RTX4090_SECURE is passed over: price: RTX4090 is not in SkyPilot's list any "
        "more; going on with Lambda 1x_RTX3090_SECURE"
    )
    assert "the price has changed ($0.600 an hour on 2026-11-21, $4.000 now): worst" in passed[1]
    assert len(passed) == 2
    assert len([line for line in said if line.startswith("not checked: driver")]) == 1


def test_when_none_is_left_every_reason_is_given(sound: Priced) -> None:
    sound()
    with pytest.raises(OutsideFailed) as failed:
        ready(paid(PAID, OTHER), None, None, lambda line: None)
    assert str(failed.value).splitlines() == [
        "price: RTX4090 is not in SkyPilot's list any more",
        "price: RTX3090 is not in SkyPilot's list any more",
    ]
    sound(RTX3090=9.0)
    with pytest.raises(NothingFits) as dear:
        ready(paid(PAID, OTHER), None, None, lambda line: None)
    assert "RTX4090 is not in" in str(dear.value)
    assert "$9.000 now" in str(dear.value)
    assert len(str(dear.value).splitlines()) == 3


def test_where_nothing_may_be_rented_a_provider_is_asked_once(sound: Priced, monkeypatch) -> None:
    asked = sound(RTX3090=0.6)
    shut = Check(name="skypilot", state="failed", found="RunPod: no key", outside=True)

    def answered(questions: list[Question]) -> list[Check]:
        about = {q.name: q for q in questions}["price"].ask.args[0].offer.provider
        return [shut] if about == "runpod" else []

    monkeypatch.setattr(preflight, "asked", answered)
    monkeypatch.setenv(refresh.VARIABLE, "/a/python/that/has/it")
    said: list[str] = []
    same = cloud("A6000", 0.55, capabilities=("autodown",))
    found = ready(paid(PAID, same, OTHER), None, None, said.append)
    assert found.chosen is not None
    assert found.chosen.offer.provider == "lambda"
    assert len([line for line in said if "RunPod: no key" in line]) == 1
    assert asked == ["RTX3090"]


def test_a_card_that_the_environment_cannot_use_is_passed_over(sound: Priced) -> None:
    old = cloud("V100-16GB", 0.2, capabilities=("autodown",))
    sound(RTX4090=0.5)
    made = paid(PAID)
    assert made.chosen is not None
    first = msgspec.structs.replace(made.chosen, offer=old)
    second = msgspec.structs.replace(made.chosen, verdict="possible")
    said: list[str] = []
    found = ready(
        msgspec.structs.replace(made, candidates=(first, second)), None, None, said.append
    )
    assert found.chosen is not None
    assert found.chosen.offer.device.name == "RTX4090"
    assert any("V100-16GB has 7.0" in line for line in said)


def test_spot_is_gone_on_to_only_with_a_bucket(sound: Priced) -> None:
    spot = cloud("A6000", 0.55, "aws", spot=True, capabilities=("autodown", "spot"))
    budget = Budget(max_cost_microusd=dollars(4), spot=True)
    made = planned([PAID, spot], budget)
    assert [c.offer.spot for c in made.fallbacks] == [True]
    sound(A6000=0.55)
    with pytest.raises(OutsideFailed):
        ready(made, "runs", None, lambda line: None)
    found = ready(made, "s3://bucket/runs", None, lambda line: None)
    assert found.chosen is not None
    assert found.chosen.offer.spot


def test_what_is_wrong_with_the_job_is_so_everywhere(sound: Priced, monkeypatch) -> None:
    asked = sound(RTX4090=0.5, RTX3090=0.6)
    bad = Check(name="data", state="failed", found="no supervised tokens")
    monkeypatch.setattr(preflight, "asked", lambda questions: [bad])
    with pytest.raises(BadInput, match="no supervised tokens"):
        ready(paid(PAID, OTHER), None, None, lambda line: None)
    assert asked == []
