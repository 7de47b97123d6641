"""The parts of a canary and what they may take: pure, on prices and times that are given."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from launcher.errors import NothingFits
from launcher.planning.canary import (
    EPOCHS,
    PARTS,
    Part,
    PartReceipt,
    affordable,
    choosing,
    deadline_hours,
    intended,
    plan_of,
    verdict_of,
    worst_microusd,
)
from launcher.running.clock import clock
from launcher.types import MICROUSD, Budget, Candidate, Plan, TimeTerm

ALL = tuple(PARTS)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TERMS = {  # seconds: low, expected, high
    "provision": (60, 180, 900),
    "image pull": (20, 75, 400),
    "set up": (15, 60, 180),
    "training": (10, 30, 60),
    "teardown": (20, 60, 515),
}


def timed(candidate: Candidate, rate: int, instance: str, verdict: str = "chosen") -> Candidate:
    terms = tuple(
        TimeTerm(
            name=name,
            low_hours=low / 3600,
            expected_hours=expected / 3600,
            high_hours=high / 3600,
            why="given",
        )
        for name, (low, expected, high) in TERMS.items()
    )
    assert candidate.estimate is not None
    estimate = msgspec.structs.replace(candidate.estimate, time=terms)
    offer = msgspec.structs.replace(
        candidate.offer,
        microusd_per_hour=rate,
        instance=instance,
        executor="skypilot",
        as_of="2026-11-21",
    )
    worst = round(rate * estimate.hours_high)
    return msgspec.structs.replace(
        candidate, offer=offer, estimate=estimate, worst_microusd=worst, verdict=verdict
    )


@pytest.fixture
def plan(small_plan: Plan) -> Plan:
    """72 cents an hour, or for 36 cents after it in the plan's order; a cap of a dollar."""
    (chosen, *_) = small_plan.candidates
    return msgspec.structs.replace(
        small_plan,
        run_id="canary-1",
        budget=Budget(max_cost_microusd=MICROUSD, max_hours=2.0, collect_minutes=1),
        candidates=(
            timed(chosen, 720_000, "dear"),
            timed(chosen, 360_000, "cheap", "possible"),
        ),
    )


def part_called(plan: Plan, name: str) -> Part:
    return next(part for part in intended(plan, ALL) if part.name == name)


def test_a_job_without_end_is_paid_until_a_machine_as_expected_has_installed_everything(plan):
    assert deadline_hours(plan.candidates[0]) * 3600 == pytest.approx(180 + 75 + 180)
    part = part_called(plan, "machine")
    assert part.hours_at_most * 3600 == pytest.approx(435 + 515)
    assert part.cap_microusd == 720_000 * (435 + 515) // 3600
    assert part.planned_microusd == 720_000 * 435 // 3600


def test_the_sample_job_may_take_what_the_others_leave_of_the_cap(plan):
    assert worst_microusd(plan, ALL) == MICROUSD
    others = part_called(plan, "machine").cap_microusd + part_called(plan, "guard").cap_microusd
    assert part_called(plan, "receipt").cap_microusd == MICROUSD - others
    assert [part.name for part in intended(plan, ("guard",))] == ["guard"]


def test_the_first_offer_on_which_the_cap_pays_for_all_is_taken(plan):
    assert affordable(plan, ALL).chosen.offer.instance == "dear"
    small = msgspec.structs.replace(plan.budget, max_cost_microusd=600_000)
    tight = affordable(msgspec.structs.replace(plan, budget=small), ALL)
    assert [c.offer.instance for c in tight.candidates] == ["cheap", "dear"]
    assert [c.verdict for c in tight.candidates] == ["chosen", "possible"]
    assert worst_microusd(tight, ALL) <= 600_000


def test_where_none_is_the_cap_that_would_be_is_named(plan):
    less = msgspec.structs.replace(plan.budget, max_cost_microusd=300_000)
    with pytest.raises(
        NothingFits, match=r"(?s)worst > cap \$0.30.*--max-cost 0.\d\d pays"
    ) as said:
        affordable(msgspec.structs.replace(plan, budget=less), ALL)
    named = float(str(said.value).partition("--max-cost ")[2].partition(" ")[0])
    enough = msgspec.structs.replace(less, max_cost_microusd=round(named * MICROUSD))
    cheap = choosing(plan, plan.candidates[1])
    assert affordable(msgspec.structs.replace(cheap, budget=enough), ALL)


@pytest.mark.parametrize("rate", [720_000, 0])
def test_the_clock_of_a_job_without_end_is_its_parts(plan, rate):
    """By the cap in dollars, and by its hours where an hour costs nothing."""
    free = msgspec.structs.replace(plan, candidates=(timed(plan.candidates[0], rate, "x"),))
    made = plan_of(free, part_called(free, "machine"), "canary-1", NOW)
    due = clock(made, made.candidates[0], 0, NOW)
    assert due.stop_at == pytest.approx(NOW + timedelta(seconds=435), abs=timedelta(seconds=1))
    assert due.paid_until <= NOW + timedelta(seconds=951)


def test_what_is_submitted_is_the_sample_with_an_end_or_without(plan):
    sample = plan_of(plan, part_called(plan, "receipt"), "canary-1", NOW)
    assert (sample.run_id, sample.created_at[:19]) == ("canary-1-receipt", "2026-11-21T12:00:00")
    assert sample.chosen.spec == msgspec.structs.replace(
        plan.chosen.spec, run_id="canary-1-receipt"
    )
    assert len(sample.fallbacks) == 1  # no capacity here is no failure of the provider
    endless = plan_of(plan, part_called(plan, "guard"), "canary-1", NOW)
    assert endless.job.train.epochs == endless.chosen.spec.train.epochs == EPOCHS
    assert endless.chosen.spec.run_id == endless.run_id == "canary-1-guard"
    assert endless.fallbacks == ()


def test_the_first_part_that_is_not_proved_decides():
    def part(verdict: str) -> PartReceipt:
        return PartReceipt(name="machine", verdict=verdict, found="")

    assert verdict_of([]) == verdict_of([part("proved")]) == "proved"
    assert verdict_of([part("proved"), part("outside failed"), part("not run")]) == "outside failed"
