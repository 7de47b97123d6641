"""Which checks a plan gets, what stops it, and at which price it is submitted."""

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from launcher import preflight
from launcher.catalog import enabled
from launcher.checking.checks import Check
from launcher.checking.fresh_price import Asking
from launcher.errors import BadInput, NothingFits, OutsideFailed
from launcher.types import GIB, Budget, DiskTerm, Plan
from tests.unit.launcher.plans import JOB, cloud, dollars, local, planned

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PAID = cloud("RTX4090", 0.5, capabilities=("autodown",))


def paid(usd: float = 4) -> Plan:
    return planned([PAID], Budget(max_cost_microusd=dollars(usd)))


class Usage(NamedTuple):
    free: int


def states(found: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment, no SkyPilot, no token, and nobody listens where the Hub would be."""
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    for variable in ("LORALIFT_SKYPILOT_PYTHON", "LORALIFT_TRAIN_PYTHON", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


def test_a_paid_plan_gets_every_check(tmp_path: Path) -> None:
    found = preflight.checks(paid(), str(tmp_path / "runs"), "me/adapter")
    assert states(found) == {
        "dtype": "ok",
        "card": "ok",
        "driver": "skipped",  # a rented machine's is seen only there
        "disk": "ok",
        "provider": "ok",
        "store": "ok",
        "data": "skipped",  # no training environment
        "token": "missing",
        "model": "unknown",  # the Hub does not answer
        "client": "ok" if find_spec("huggingface_hub") else "failed",
        "push": "failed",  # no token
        "skypilot": "failed",
        "price": "skipped",
    }
    assert not (tmp_path / "runs").exists()


def test_a_parent_on_the_hub_is_looked_at_too() -> None:
    job = msgspec.structs.replace(JOB, resume_from="hub:me/adapter@v1")
    made = planned([PAID], Budget(max_cost_microusd=dollars(4)), job)
    assert "parent" in states(preflight.checks(made))


def test_what_costs_nothing_gets_what_takes_no_time(tmp_path: Path, monkeypatch) -> None:
    made = planned([local("RTX4090", 23)], Budget())
    monkeypatch.setattr(preflight, "asked", lambda questions: pytest.fail("somebody was asked"))
    said: list[str] = []
    assert preflight.ready(made, str(tmp_path / "runs"), None, said.append) is made
    assert said == []


def test_a_free_run_that_is_to_be_published_needs_what_publishes_it_too() -> None:
    made = planned([local("RTX4090", 23)], Budget())
    with pytest.raises(BadInput, match="push: --hub me/adapter needs HF_TOKEN, which is not set"):
        preflight.ready(made, None, "me/adapter", lambda line: None)


def test_a_plan_without_a_choice_comes_back_as_it_is() -> None:
    nothing = planned([PAID], Budget(max_cost_microusd=1))
    assert preflight.ready(nothing, None, None, lambda line: None) is nothing
    with pytest.raises(NothingFits, match="nothing is chosen"):
        preflight.checks(nothing)


def test_a_store_that_cannot_be_written_stops_a_free_run_too(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    made = planned([local("RTX4090", 23)], Budget())
    with pytest.raises(BadInput, match=r"store: no file can be made in .*file: Not a directory"):
        preflight.ready(made, str(file), None, lambda line: None)


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
    assert preflight.ready(made, None, None, lambda line: None) is made
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: Usage(3 * GIB - 1))
    with pytest.raises(OutsideFailed, match=r"disk: needs 3\.0 GiB, 3\.0 are free"):
        preflight.ready(made, None, None, lambda line: None)


def test_an_s3_store_that_nothing_here_can_write_is_not_taken_for_sound(monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(preflight.importlib, "import_module", missing)
    found = next(c for c in preflight.checks(paid(), "s3://bucket/runs") if c.name == "store")
    assert found.state == "unknown"
    assert "s3://bucket/runs was not looked at" in found.found


class Stores:
    """results.stores as far as it is asked: a bucket that refuses to be written to, or does not."""

    class StoreError(Exception):
        pass

    def __init__(self, why: str) -> None:
        self.why, self.opened = why, ""

    def open_store(self, url: str) -> str:
        self.opened = url
        return url

    def require_writable(self, store: str) -> None:
        if self.why:
            raise self.StoreError(self.why)


@pytest.mark.parametrize(("why", "state"), [("", "ok"), ("403\nAccessDenied", "failed")])
def test_an_s3_store_is_written_to_by_what_keeps_runs_there(monkeypatch, why, state) -> None:
    stores = Stores(why)
    monkeypatch.setattr(preflight.importlib, "import_module", lambda name: stores)
    found = next(c for c in preflight.checks(paid(), "s3://bucket/runs") if c.name == "store")
    assert (found.state, found.outside) == (state, bool(why))
    assert stores.opened == "s3://bucket/runs"


def test_only_what_failed_outside_is_an_outside_failure(tmp_path: Path) -> None:
    with pytest.raises(OutsideFailed, match="SkyPilot is not installed"):
        preflight.ready(paid(), str(tmp_path), None, lambda line: None)
    with pytest.raises(BadInput) as failed:
        preflight.ready(paid(), str(tmp_path), "me/adapter", lambda line: None)
    assert "needs HF_TOKEN" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 3


def test_what_was_not_checked_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(OutsideFailed):
        preflight.ready(paid(), str(tmp_path), None, said.append)
    assert [line.split(":")[1].strip() for line in said[1:]] == [
        "driver", "data", "model", "price",
    ]  # fmt: skip


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch):
    """All checks are answered well, and the price is as told."""

    def priced(usd: float) -> None:
        now = msgspec.structs.replace(PAID, microusd_per_hour=dollars(usd))
        monkeypatch.setattr(preflight, "fresh_price", lambda *_: now)
        monkeypatch.setattr(
            preflight,
            "asked",
            lambda questions: [Check(name=q.name, state="ok", found="") for q in questions],
        )

    return priced


def test_a_paid_plan_is_submitted_at_the_price_of_now(sound) -> None:
    sound(0.9)
    found = preflight.ready(paid(), None, None, lambda line: None)
    assert found.chosen is not None
    assert found.chosen.offer.microusd_per_hour == dollars(0.9)


def test_a_price_over_the_cap_stops_it(sound) -> None:
    sound(2.5)
    with pytest.raises(NothingFits, match=r"worst \$5 > cap \$4") as failed:
        preflight.ready(paid(), None, None, lambda line: None)
    assert "--max-cost" in str(failed.value)


def known(age: timedelta, **changes: object) -> None:
    check = enabled.Check(
        checked_at=(NOW - age).isoformat(), skypilot="0.14.1", enabled=("runpod",), disabled={}
    )
    enabled.keep(msgspec.structs.replace(check, **changes))


class Asked(Asking):
    """SkyPilot's answer as it would be now."""

    def __init__(self, *names: str) -> None:
        super().__init__("runpod", "2026-11-21")
        self.names, self.times = names, 0

    def answer(self) -> preflight.refresh.Answer:
        self.times += 1
        found = list(self.names)
        disabled = {} if found else {"runpod": "no key"}
        return preflight.refresh.Answer("0.14.1", found, disabled, {}, ())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORALIFT_SKYPILOT_PYTHON", "/usr/bin/python3")


def test_what_skypilot_said_within_a_day_counts(installed) -> None:
    known(timedelta(hours=3))
    asking = Asked()
    found = preflight.credentials(asking, NOW)
    assert found.state == "ok"
    assert found.found == "RunPod was enabled 3 h ago (SkyPilot 0.14.1)"
    assert asking.times == 0


@pytest.mark.parametrize(
    "keep",
    [
        lambda: None,
        lambda: known(timedelta(days=2)),
        lambda: known(timedelta(hours=1), enabled=()),
        lambda: known(timedelta(hours=1), enabled=(), disabled={"runpod": "no key"}),
    ],
    ids=["never", "long ago", "not about it", "it was not"],
)
def test_otherwise_it_is_asked(installed, keep) -> None:
    keep()
    asking = Asked("runpod")
    found = preflight.credentials(asking, NOW)
    assert (found.state, asking.times) == ("ok", 1)
    assert "asked now" in found.found
    found = preflight.credentials(Asked(), NOW)
    assert (found.state, found.outside) == ("failed", True)
    assert "no key; pip install 'skypilot[runpod]' && runpod config" in found.found
