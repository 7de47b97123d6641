import msgspec
import pytest

from launcher.checking.checks import Check
from launcher.checking.fitness import fitness
from launcher.types import Offer, Plan
from tests.unit.launcher.plans import TEN, cloud, local, planned

DOWN = ("autodown",)


def checks(offer: Offer, own_python: bool = False, **changes: object) -> dict[str, Check]:
    made = planned([offer], msgspec.structs.replace(TEN, spot=True, **changes))
    return {check.name: check for check in fitness(chosen(made), own_python)}


def chosen(made: Plan):
    assert made.chosen is not None, made.candidates[0].reason
    return made.chosen


def test_a_sound_offer() -> None:
    found = checks(cloud("RTX4090", 0.5, capabilities=DOWN))
    states = {name: check.state for name, check in found.items()}
    assert states == {
        "dtype": "ok", "driver": "skipped", "disk": "ok", "provider": "ok",
    }  # fmt: skip
    assert found["dtype"].found == "bf16 on RTX4090"
    assert found["disk"].found == "needs 20.0 GiB, 100 GiB are rented"


def test_bf16_that_the_card_has_not() -> None:
    made = planned([cloud("T4", 0.5)], TEN)
    candidate = chosen(made)
    assert candidate.spec is not None
    spec = msgspec.structs.replace(candidate.spec, dtype="bf16")
    (found, *_) = fitness(msgspec.structs.replace(candidate, spec=spec), False)
    assert (found.name, found.state) == ("dtype", "failed")
    assert found.found == "bf16 needs compute capability 8.0, T4 has 7.5"


def test_a_newer_card_s_own_driver_is_the_floor() -> None:
    offer = cloud("RTX4090", 0.5, minimum_driver="590.10")
    assert "needs driver 590.10 or newer" in checks(offer)["driver"].found
    offer = cloud("RTX4090", 0.5, minimum_driver="520.61.05")
    assert "needs driver 580.65.06 or newer" in checks(offer)["driver"].found


@pytest.mark.parametrize(
    ("driver", "state"),
    [("580.65.06", "ok"), ("580.9", "failed"), ("590.1", "ok"), ("570.26", "failed")],
)
def test_the_driver_of_this_machine_is_known(driver: str, state: str) -> None:
    here = msgspec.structs.replace(local("RTX4090", 23), source=f"NVML, driver {driver}")
    found = checks(here)["driver"]
    assert found.state == state
    assert found.outside == (state == "failed")
    assert "driver" not in checks(here, own_python=True)


def test_a_cpu_needs_no_driver_and_rents_no_disk() -> None:
    assert list(checks(local("cpu", 20), max_hours=2000.0)) == ["dtype"]


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        (cloud("RTX4090", 0.5), "SkyPilot has no autodown on RunPod"),
        (cloud("RTX4090", 0.5, spot=True, capabilities=DOWN), "SkyPilot has no spot on RunPod"),
        (cloud("RTX4090", 0.5, spot=True), "SkyPilot has no autodown and no spot on RunPod"),
    ],
)
def test_a_provider_must_take_the_machine_down_and_have_spot(offer: Offer, said: str) -> None:
    found = checks(offer)["provider"]
    assert (found.state, found.found) == ("failed", said)


def test_a_missing_stop_is_no_fault() -> None:
    found = checks(cloud("RTX4090", 0.5, capabilities=("autodown", "spot"), spot=True))
    assert found["provider"].state == "ok"


def test_a_disk_that_nobody_chooses_is_unknown() -> None:
    found = checks(cloud("A10", 0.75, "lambda", capabilities=DOWN))["disk"]
    assert found.state == "unknown"
    assert "needs 20.0 GiB" in found.found
