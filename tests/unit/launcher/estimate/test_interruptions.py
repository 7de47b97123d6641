"""What a spot machine costs in time: work that is lost and begun again."""

import random

import msgspec
import pytest

from launcher.estimate import estimate
from launcher.estimate.calibration import Card, Factor
from launcher.estimate.renting import interruptions
from launcher.types import TimeTerm
from tests.unit.launcher.estimate.test_estimate import (
    FACTS,
    QWEN_7B,
    RTX_4090,
    offer_for,
    shape_for,
    spec_for,
)


def simulated_seconds(rate_per_hour: float, work: float, runs: int) -> float:
    """Mean time of `work` seconds on machines that are taken at random, each begun anew."""
    drawn, spent = random.Random(17), 0.0
    for _ in range(runs):
        while (life := drawn.expovariate(rate_per_hour / 3600)) < work:
            spent += life
        spent += work
    return spent / runs


@pytest.mark.parametrize(("rate", "hours"), [(0.1, 1.0), (0.1, 8.0), (0.5, 4.0)])
def test_it_is_what_a_simulation_takes(rate: float, hours: float) -> None:
    lost = interruptions((rate, rate, rate), (training(hours),))
    took = simulated_seconds(rate, hours * 3600, 5_000)
    assert (lost.expected_hours + hours) * 3600 == pytest.approx(took, rel=0.03)


def test_a_spot_offer_shows_it_and_another_does_not() -> None:
    spec, shape, plain = spec_for(QWEN_7B), shape_for(QWEN_7B), offer_for(RTX_4090)
    spot = msgspec.structs.replace(plain, spot=True, interruptions_per_hour=(0.0, 0.01, 0.2))
    on_demand, on_spot = (estimate(spec, shape, FACTS, offer) for offer in (plain, spot))
    assert "interruptions" not in [t.name for t in on_demand.time]
    (term,) = [t for t in on_spot.time if t.name == "interruptions"]
    assert term.low_hours == 0
    assert 0 < term.expected_hours < term.high_hours
    assert on_spot.hours_high == pytest.approx(on_demand.hours_high + term.high_hours)


def test_a_job_that_would_never_end_is_a_number_still() -> None:
    lost = interruptions((1.0, 1.0, 1.0), (training(8000.0),))
    assert 1e7 < lost.high_hours < 1e9


def test_runs_that_took_longer_lose_more() -> None:
    """Calibrated hours are what may be lost."""
    spec, shape, plain = spec_for(QWEN_7B), shape_for(QWEN_7B), offer_for(RTX_4090)
    spot = msgspec.structs.replace(plain, spot=True, interruptions_per_hour=(0.0, 0.01, 0.2))
    slow = Factor(runs=5, expected=3.0, centre=3.0, lowest=2.9, highest=3.1)
    known = {("RTX4090", spec.strategy): Card(runs=5, memory=None, training=slow)}
    found = estimate(spec, shape, FACTS, spot, known)
    (lost,) = [t for t in found.time if t.name == "interruptions"]
    work = tuple(t for t in found.time if t.name != "interruptions")
    assert lost == interruptions((0.0, 0.01, 0.2), work)
    assert any(t.name == "calibration" for t in work)


def training(hours: float) -> TimeTerm:
    return TimeTerm(
        name="training", low_hours=hours, expected_hours=hours, high_hours=hours, why=""
    )
