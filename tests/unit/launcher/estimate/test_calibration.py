import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from launcher.estimate import calibration, estimate
from launcher.estimate.calibration import (
    ABSURD,
    MEMORY,
    TRAINING,
    Calibration,
    Factor,
    Ratio,
    calibrate,
    factor,
)
from launcher.types import CALIBRATION, Device, Estimate, Measurement
from tests.unit.launcher.estimate.test_estimate import (
    CPU,
    FACTS,
    QWEN_7B,
    RTX_4090,
    offer_for,
    shape_for,
    spec_for,
)

ratios = some.lists(
    some.builds(
        Ratio,
        some.sampled_from(("one", "two", "three")),
        some.floats(1 / ABSURD, ABSURD, exclude_min=True, exclude_max=True),
    ),
    min_size=1,
    max_size=12,
)


def measured(
    memory: float | None, training: float | None, device: Device = RTX_4090, **changes: object
) -> Measurement:
    """A run that took these multiples of what was estimated for it."""
    fields = {
        "card": calibration.card_name(device),
        "device": device.kind,
        "strategy": "qlora",
        "model": QWEN_7B,
        "memory_metric": "any",
        "memory_bytes": None if memory is None else round(memory * 10**10),
        "memory_estimated_bytes": None if memory is None else 10**10,
        "training_tokens": None if training is None else 1000,
        "training_seconds": None if training is None else training * 100,
        "training_estimated_seconds": None if training is None else 100.0,
    }
    return Measurement(**fields | changes)


def estimated(found: Calibration, device: Device = RTX_4090, strategy: str = "qlora") -> Estimate:
    model, dtype = (QWEN_7B, "bf16") if device.kind == "cuda" else ("Qwen/Qwen2.5-0.5B", "fp32")
    spec = spec_for(model, strategy, dtype)
    return estimate(spec, shape_for(model), FACTS, offer_for(device), found)


PLAIN = estimated(calibration.NONE)


def after(count: int, ratio: float) -> Factor:
    """The factor after so many runs of as many models."""
    found = factor([Ratio(f"model {n}", ratio) for n in range(count)], TRAINING)
    assert found is not None
    return found


def training(one: Estimate, name: str = "training") -> tuple[float, float, float]:
    (term,) = [t for t in one.time if t.name == name]
    return term.low_hours, term.expected_hours, term.high_hours


# --- the factor -----------------------------------------------------------------------------


def test_runs_on_eight_cards_say_nothing_of_one() -> None:
    spec, shape = spec_for(QWEN_7B), shape_for(QWEN_7B)
    found = calibrate([measured(1.1, 2.0, card=calibration.card_name(RTX_4090, 8))])
    one = offer_for(RTX_4090)
    eight = msgspec.structs.replace(one, count=8)
    assert estimate(spec, shape, FACTS, one, found) == PLAIN
    shifted = estimate(spec, shape, FACTS, eight, found)
    assert shifted.hours_expected > PLAIN.hours_expected
    assert "calibrated on 1 run of qlora on 8× RTX4090" in shifted.assumptions[-1]


def test_one_run_moves_a_share_and_many_nearly_all() -> None:
    k = TRAINING.k
    assert after(1, 2.0).expected == pytest.approx(2 ** (1 / (1 + k)))
    assert after(4, 2.0).expected == pytest.approx(2 ** (4 / (4 + k)))
    assert after(1000, 2.0).expected == pytest.approx(2.0, rel=1e-3)
    assert factor([Ratio("m", 2.0)], MEMORY).expected < after(1, 2.0).expected  # cards differ less


def test_no_run_no_factor() -> None:
    assert factor([], MEMORY) is None


def test_twice_as_much_and_half_as_much_cancel() -> None:
    found = factor([Ratio("a", 2.0), Ratio("b", 0.5)], TRAINING)
    assert found.expected == pytest.approx(1.0)
    assert (found.lowest, found.highest) == (pytest.approx(0.5), pytest.approx(2.0))


def test_the_bounds_narrow_down_to_the_scatter() -> None:
    widths = [after(count, 1.1).width for count in (1, 2, 5, 50, 5000)]
    assert widths == sorted(widths, reverse=True)
    floor = TRAINING.within / math.hypot(TRAINING.within, TRAINING.between)
    assert 1 > widths[0] > widths[-1] > floor
    assert widths[-1] == pytest.approx(floor, rel=1e-3)


def test_runs_that_scatter_widely_widen_the_bounds() -> None:
    far = factor([Ratio("a", 3.0), Ratio("b", 0.4), Ratio("c", 1.0)], TRAINING)
    assert far.width > 1


def test_runs_of_one_model_narrow_the_bounds_but_once() -> None:
    again = factor([Ratio("m", 1.3)] * 20, TRAINING)
    assert again.expected == pytest.approx(after(20, 1.3).expected)
    assert again.width == pytest.approx(after(1, 1.3).width)
    assert again.centre == pytest.approx(after(1, 1.3).centre)


def test_an_absurd_run_is_left_out_and_said() -> None:
    sane = [Ratio("a", 1.1), Ratio("b", 1.2)]
    found = factor([*sane, Ratio("c", 9.1), Ratio("d", 0.01)], TRAINING)
    plain = factor(sane, TRAINING)
    assert found.left_out == (9.1, 0.01)
    assert (found.runs, found.expected, found.highest) == (2, plain.expected, plain.highest)
    assert str(found).endswith("left out as absurd: ×9.1, ×0.01")


@given(ratios)
def test_a_factor_lies_between_what_was_measured_and_one(found: list[Ratio]) -> None:
    got = factor(found, MEMORY)
    values = [r.value for r in found]
    low, high = min(*values, 1.0), max(*values, 1.0)
    assert low * (1 - 1e-9) <= got.expected <= high * (1 + 1e-9)
    assert low * (1 - 1e-9) <= got.centre <= high * (1 + 1e-9)
    assert got.runs == len(found)


@given(ratios, some.floats(0.01, 100.0), some.floats(1.0, 5.0), some.floats(1.0, 5.0))
def test_the_bounds_hold_all_that_was_measured(
    found: list[Ratio], expected: float, down: float, up: float
) -> None:
    got = factor(found, TRAINING)
    low, high = got.lower(expected, expected / down), got.upper(expected, expected * up)
    assert low <= expected * got.expected <= high
    for ratio in found:
        assert low * (1 - 1e-9) <= expected * ratio.value <= high * (1 + 1e-9)


# --- the estimate ---------------------------------------------------------------------------


def test_nothing_measured_changes_nothing() -> None:
    others = calibrate(
        [
            measured(1.2, 1.2, card="RTX3090"),
            measured(1.2, 1.2, strategy="lora"),
            measured(None, None),
        ]
    )
    unknown = {key: card for key, card in others.items() if card.runs}
    assert estimated(unknown) == PLAIN
    assert PLAIN.calibrated_on == 0
    assert all(t.name != CALIBRATION for t in (*PLAIN.memory, *PLAIN.time))


def test_what_a_card_measured_becomes_a_term_of_its_own() -> None:
    got = estimated(calibrate([measured(1.1, 0.8), measured(1.1, 0.8)]))
    share = MEMORY.k / (MEMORY.k + 2)
    added = PLAIN.memory_allocated_bytes * (1.1 ** (1 - share) - 1)
    assert got.memory[:-1] == PLAIN.memory
    assert (got.memory[-1].name, got.memory[-1].seen) == (CALIBRATION, "allocated")
    assert got.memory[-1].bytes == pytest.approx(added, abs=1)
    assert "calibrated on 2 runs: ×1.06" in got.memory[-1].why
    assert got.memory_allocated_bytes == PLAIN.memory_allocated_bytes + got.memory[-1].bytes
    assert got.memory_expected_bytes == sum(t.bytes for t in got.memory)
    assert got.memory_upper_bytes >= 1.1 * PLAIN.memory_expected_bytes
    assert got.host_ram_bytes == PLAIN.host_ram_bytes  # no measurement of the host's
    assert training(got) == training(PLAIN)
    assert training(got, CALIBRATION)[1] < 0
    assert got.hours_low <= got.hours_expected < PLAIN.hours_expected
    assert got.calibrated_on == 2
    assert "calibrated on 2 runs of qlora on RTX4090: memory ×1.06" in got.assumptions[-1]


def test_a_cpu_is_known_by_its_cores_and_its_resident_set() -> None:
    plain = estimated(calibration.NONE, CPU, "lora")
    found = calibrate([measured(0.9, None, CPU, strategy="lora", card="CPU, 2 cores")])
    got = estimated(found, CPU, "lora")
    added = plain.memory_expected_bytes * (0.9 ** (1 / (1 + MEMORY.k)) - 1)
    assert got.memory[-1].bytes == pytest.approx(added, abs=1)
    assert got.memory_allocated_bytes == plain.memory_allocated_bytes
    assert got.host_ram_bytes == got.memory_upper_bytes < plain.memory_upper_bytes
    assert got.time == plain.time
    four = Device(kind="cpu", name="CPU", usable_bytes=1, total_bytes=1, cores=4)
    assert estimated(found, four, "lora").calibrated_on == 0


def test_the_highest_peak_and_the_slowest_run_are_within_the_bounds() -> None:
    found = calibrate([measured(ratio, ratio) for ratio in (0.9, 0.9, 0.9, 0.9, 1.9)])
    got = estimated(found)
    _, expected, _ = training(PLAIN)
    assert got.memory_upper_bytes >= 1.9 * PLAIN.memory_expected_bytes
    assert training(got)[2] + training(got, CALIBRATION)[2] >= 1.9 * expected * (1 - 1e-12)
    assert training(got)[0] + training(got, CALIBRATION)[0] <= 0.9 * expected * (1 + 1e-12)


def test_many_like_runs_narrow_the_estimate() -> None:
    many = [measured(1.0, 1.0, model=f"model {n}") for n in range(200)]
    got = estimated(calibrate(many))
    assert got.memory_expected_bytes == PLAIN.memory_expected_bytes
    assert PLAIN.memory_expected_bytes < got.memory_upper_bytes < PLAIN.memory_upper_bytes
    assert PLAIN.hours_low < got.hours_low < got.hours_high < PLAIN.hours_high


def test_runs_count_by_what_they_measured() -> None:
    found = calibrate([measured(1.1, None), measured(None, 1.1), measured(1.1, 1.1)])
    got = estimated(found)
    assert got.calibrated_on == 3
    assert got.memory[-1].why.startswith("calibrated on 2 runs")
    assert got.time[-1].why.startswith("training calibrated on 2 runs")


def test_an_absurd_run_alone_changes_no_figure() -> None:
    got = estimated(calibrate([measured(9.0, None)]))
    assert got.memory == PLAIN.memory
    assert (got.memory_upper_bytes, got.calibrated_on) == (PLAIN.memory_upper_bytes, 0)
    assert got.assumptions[-1].startswith("not calibrated on the runs of qlora on RTX4090")
    assert "left out as absurd: ×9" in got.assumptions[-1]
