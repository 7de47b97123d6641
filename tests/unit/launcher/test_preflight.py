"""Which checks a plan gets, and what they find."""

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from jobs.spec import Model
from launcher import preflight
from launcher.catalog import enabled
from launcher.checking.checks import Check
from launcher.checking.fresh_price import Asking
from launcher.errors import NothingFits
from launcher.types import Budget, Plan
from tests.unit.launcher.plans import JOB, cloud, dollars, planned

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PAID = cloud("RTX4090", 0.5, capabilities=("autodown",))

pytestmark = pytest.mark.usefixtures("apart")


def paid(usd: float = 4) -> Plan:
    return planned([PAID], Budget(max_cost_microusd=dollars(usd)))


def states(found: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in found}


def test_a_paid_plan_gets_every_check(tmp_path: Path) -> None:
    found = preflight.checks(paid(), str(tmp_path / "runs"), "me/adapter")
    assert states(found) == {
        "dtype": "ok",
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


def with_model(folder: Path, **init: str) -> Plan:
    job = msgspec.structs.replace(JOB, model=Model(id=str(folder), **init))
    return planned([PAID], Budget(max_cost_microusd=dollars(4)), job)


def of_model(plan: Plan) -> Check | None:
    assert plan.chosen is not None
    found = preflight.immediate(plan, plan.chosen, None)
    return next((check for check in found if check.name == "model"), None)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "has no .safetensors weights; convert them with save_pretrained"),
        (("model.safetensors",), None),
        (("adapter.safetensors", "index"), "lacks 2 of its files of weights: 1-of-2.safetensors"),
        (("1-of-2.safetensors", "index"), "lacks 1 of its files of weights: 2-of-2.safetensors"),
        (("1-of-2.safetensors", "2-of-2.safetensors", "index"), None),
        (("model.safetensors", "index"), None),
    ],
)
def test_a_model_s_folder_has_its_weights(
    tmp_path: Path, files: tuple[str, ...], said: str | None
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    if "index" in files:
        named = {"a": "1-of-2.safetensors", "b": "2-of-2.safetensors"}
        index = tmp_path / "model.safetensors.index.json"
        index.write_bytes(msgspec.json.encode({"weight_map": named}))
    found = of_model(with_model(tmp_path))
    assert found is not None
    assert found.state == ("ok" if said is None else "failed")
    assert found.found.startswith(str(tmp_path))
    assert said is None or said in found.found


def test_what_begins_at_random_needs_no_weights(tmp_path: Path) -> None:
    assert of_model(with_model(tmp_path, init="random")) is None


def test_without_a_choice_there_is_nothing_to_check() -> None:
    with pytest.raises(NothingFits, match="nothing is chosen"):
        preflight.checks(planned([PAID], Budget(max_cost_microusd=1)))


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
