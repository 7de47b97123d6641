"""Pure: what `launch canary` proves, part by part, and what each part may take of the one cap.

The receipt's part is the sample job as anybody runs it. The two others are the same job with so
many epochs that it would train for weeks, under a cap that ends it: one by the machine's own side,
one by the guard. Such a cap is below the plan's worst case, so that no planner would choose it; it
pays for a deadline by which a machine as fast as expected is at work, and for the reserved end.
"""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from typing import Literal

import msgspec
from msgspec import Struct

from launcher.errors import NothingFits
from launcher.planning.costs import affordable_hours, aged, cost_microusd, job_hours
from launcher.planning.refusals import usd
from launcher.times import stamp
from launcher.types import Budget, Candidate, Plan

PartName = Literal["receipt", "machine", "guard"]
Verdict = Literal["proved", "failed", "over budget", "outside failed", "not run"]

PARTS: dict[PartName, str] = {
    "receipt": "the sample job from plan to receipt: rented, trained, fetched, taken down",
    "machine": "a job without end, nobody looks: its machine ends it and is gone",
    "guard": "a job without end, halted, and its watchdog killed: the guard ends it",
}
COLLECT_MINUTES = 1  # the least: in the machine's part nobody comes to fetch
MAX_HOURS = 2.0  # of the sample job, which takes minutes: where the cap is no limit. Assumption
EPOCHS = 1_000_000.0  # of the sample's 57 steps: two weeks at 50 steps a second


class Part(Struct, frozen=True, kw_only=True):
    """One part before it is run."""

    name: PartName
    hours_at_most: float
    planned_microusd: int  # the sample job as expected; of a job without end, up to its deadline
    cap_microusd: int  # what it may take


class PartReceipt(Struct, frozen=True, kw_only=True):
    """One part afterwards. Money in micro-dollars, times UTC."""

    name: PartName
    verdict: Verdict
    found: str  # what was seen, or why it was not proved
    run_id: str = ""
    provider: str = ""
    instance: str = ""
    region: str = ""  # as SkyPilot tells it
    gpu: str = ""
    started_at: str = ""  # the request for its machine
    ended_at: str = ""  # its machine was gone
    planned_microusd: int = 0
    cap_microusd: int = 0
    spent_microusd: int = 0  # by our meter
    accounted_microusd: int | None = None  # by SkyPilot: duration x list price, not a bill
    folder: str = ""  # its own receipt, report and log


class CanaryReceipt(Struct, frozen=True, kw_only=True):
    """What a canary proved of a provider."""

    canary_id: str
    provider: str
    verdict: Verdict
    started_at: str
    ended_at: str
    max_cost_microusd: int
    spent_microusd: int
    versions: dict[str, str]
    parts: tuple[PartReceipt, ...]


def verdict_of(parts: Sequence[PartReceipt]) -> Verdict:
    """The first that is not `proved` decides: what follows it was not run."""
    return next((part.verdict for part in parts if part.verdict != "proved"), "proved")


def parts_of(
    candidate: Candidate, budget: Budget, names: Sequence[PartName], today: str
) -> list[Part]:
    """The parts on this candidate's machine, under the budget's cap.

    The parts without an end take what they need, the sample job all the rest; where that is less
    than its worst case, the sum of the caps is above the budget's.
    """
    capped = [_without_end(candidate, name, today) for name in names if name != "receipt"]
    found = []
    if "receipt" in names:
        left = (budget.max_cost_microusd or 0) - sum(part.cap_microusd for part in capped)
        cap = max(candidate.worst_microusd, left)
        own = msgspec.structs.replace(budget, max_cost_microusd=cap)
        found.append(
            Part(
                name="receipt",
                hours_at_most=affordable_hours(candidate, own, today),
                planned_microusd=candidate.expected_microusd,
                cap_microusd=cap,
            )
        )
    return [*found, *capped]


def _without_end(candidate: Candidate, name: PartName, today: str) -> Part:
    estimate = candidate.estimate
    assert estimate is not None, "what can be chosen has an estimate"
    offer = aged(candidate.offer, today)
    working, whole = (
        deadline_hours(candidate),
        deadline_hours(candidate) + closing_hours(candidate, today),
    )
    return Part(
        name=name,
        hours_at_most=whole,
        planned_microusd=cost_microusd(candidate.offer, estimate, working),
        cap_microusd=cost_microusd(offer, estimate, whole),
    )


def deadline_hours(candidate: Candidate) -> float:
    """From the request for its machine to the deadline of a job without end: as long as a machine
    takes that is there when expected and has everything still to install."""
    assert candidate.estimate is not None, "what can be chosen has an estimate"
    terms = {term.name: term for term in candidate.estimate.time}
    there = [terms[name].expected_hours for name in ("provision", "image pull") if name in terms]
    return sum(there) + terms["set up"].high_hours


def closing_hours(candidate: Candidate, today: str) -> float:
    """What a deadline leaves for the end of the machine."""
    day = Budget(max_hours=24.0, collect_minutes=COLLECT_MINUTES)
    return day.max_hours - job_hours(candidate, day, today)


def affordable(plan: Plan, names: Sequence[PartName]) -> Plan:
    """The plan with the first of its candidates chosen on which its cap pays for all the parts.

    Raises NothingFits with the cap that would.
    """
    cap = plan.budget.max_cost_microusd or 0
    possible = [c for c in plan.candidates if c.verdict != "rejected"]
    found = [choosing(plan, candidate) for candidate in possible]
    held = [one for one in found if worst_microusd(one, names) <= cap]
    taken = held[0] if held else min(found, key=lambda one: worst_microusd(one, names))
    require_affordable(taken, names)
    return taken


def capped(plan: Plan, cap_microusd: int) -> Plan:
    """A plan that was made without a cap, under this one."""
    budget = msgspec.structs.replace(plan.budget, max_cost_microusd=cap_microusd)
    settings = tuple(s for s in plan.settings if s.key != "budget.max_cost")
    return msgspec.structs.replace(plan, budget=budget, settings=settings)


def worst_microusd(plan: Plan, names: Sequence[PartName]) -> int:
    """What all the parts may take on the plan's chosen candidate."""
    assert plan.chosen is not None, "a canary's plan has a choice"
    return sum(part.cap_microusd for part in intended(plan, names))


def intended(plan: Plan, names: Sequence[PartName]) -> list[Part]:
    """The parts on the plan's chosen candidate."""
    assert plan.chosen is not None, "a canary's plan has a choice"
    return parts_of(plan.chosen, plan.budget, names, plan.created_at[:10])


def require_affordable(plan: Plan, names: Sequence[PartName]) -> None:
    """Raises NothingFits where the cap does not pay for all the parts on the chosen candidate."""
    worst, cap = worst_microusd(plan, names), plan.budget.max_cost_microusd or 0
    if worst > cap:
        fewer = "; --part takes one of them" if len(names) > 1 else ""
        raise NothingFits(
            f"{' + '.join(names)}: {usd(worst)} at worst > cap {usd(cap)}\n"
            f"--max-cost {ceil(worst / 10_000) / 100:.2f} pays for that{fewer}"
        )


def choosing(plan: Plan, candidate: Candidate) -> Plan:
    chosen = msgspec.structs.replace(candidate, verdict="chosen")
    others = (
        msgspec.structs.replace(c, verdict="possible") if c.verdict == "chosen" else c
        for c in plan.candidates
        if (c.offer, c.spec) != (candidate.offer, candidate.spec)
    )
    return msgspec.structs.replace(plan, candidates=(chosen, *others))


def plan_of(plan: Plan, part: Part, canary_id: str, now: datetime) -> Plan:
    """What is submitted for a part, on the plan's chosen candidate, as if planned `now`."""
    chosen = plan.chosen
    assert chosen is not None, "a canary's plan has a choice"
    assert chosen.spec is not None, "and that a spec"
    budget = msgspec.structs.replace(plan.budget, max_cost_microusd=part.cap_microusd)
    made = msgspec.structs.replace(
        plan,
        run_id=f"{canary_id}-{part.name}",
        created_at=stamp(now),
        budget=budget,
    )
    if part.name == "receipt":
        return _named(made)
    train = msgspec.structs.replace(chosen.spec.train, epochs=EPOCHS)
    endless = msgspec.structs.replace(
        chosen, spec=msgspec.structs.replace(chosen.spec, train=train)
    )
    return _named(
        msgspec.structs.replace(
            made,
            budget=msgspec.structs.replace(budget, max_hours=part.hours_at_most),
            job=msgspec.structs.replace(
                plan.job, train=msgspec.structs.replace(plan.job.train, epochs=EPOCHS)
            ),
            candidates=(endless,),
        )
    )


def _named(plan: Plan) -> Plan:
    """Every candidate's spec bears the plan's run id."""
    named = (
        c
        if c.spec is None
        else msgspec.structs.replace(c, spec=msgspec.structs.replace(c.spec, run_id=plan.run_id))
        for c in plan.candidates
    )
    return msgspec.structs.replace(plan, candidates=tuple(named))
