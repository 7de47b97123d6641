"""The decision table: one job under each strategy, with what each costs beside the first."""

from collections.abc import Sequence

from launcher.display import table
from launcher.refusals import gib
from launcher.types import Candidate, Estimate, Plan
from results.receipt import dollars, duration

_CARDS_NAMED = 4


def comparison_text(plans: Sequence[Plan]) -> str:
    """A row a strategy: its memory, the GPUs that hold it, and its cheapest finished job.

    Percentages are against the first row's. Memory is CUDA's where any card was estimated.
    """
    head = ["strategy", "memory GiB", "at most", "", "fits", "cheapest", "time", "", "cost"]
    rows = [[*head, "", "at worst"]]
    judged = [(plan, _on_one_kind(plan)) for plan in plans]
    base = next((found[0] for _, found in judged if found), None)
    cheapest = [
        next((c for c in plan.candidates if c.verdict != "rejected"), None) for plan in plans
    ]
    first = next((c for c in cheapest if c is not None), None)
    notes = []
    for (plan, found), best in zip(judged, cheapest, strict=True):
        strategy = plan.job.strategy
        if not found or base is None:
            notes.append(plan.candidates[0].reason)
            continue
        memory = _estimate(found[0])
        row = [
            strategy,
            gib(memory.memory_expected_bytes),
            gib(memory.memory_upper_bytes),
            _against(memory.memory_expected_bytes, _estimate(base).memory_expected_bytes),
            _cards(plan),
        ]
        if best is None or first is None:
            largest = max(found, key=lambda c: c.offer.device.usable_bytes)
            notes.append(f"{strategy}: not even {largest.offer.device.name}: {largest.reason}")
            rows.append([*row, "none", "", "", "", "", ""])
            continue
        hours, cost = _estimate(best).hours_expected, best.expected_microusd
        where = f"{best.offer.provider} {best.offer.device.name}"
        rows.append(
            [
                *row,
                where,
                duration(hours),
                _against(hours, _estimate(first).hours_expected),
                dollars(cost),
                _against(cost, first.expected_microusd),
                dollars(best.worst_microusd),
            ]
        )
    return table(rows, right=(1, 2, 3, 6, 7, 8, 9, 10)) + "".join(f"{note}\n" for note in notes)


def _on_one_kind(plan: Plan) -> list[Candidate]:
    """What was estimated, of the kind of device that the memory is compared on."""
    estimated = [c for c in plan.candidates if c.estimate is not None]
    return [c for c in estimated if c.offer.device.kind == "cuda"] or estimated


def _estimate(candidate: Candidate) -> Estimate:
    assert candidate.estimate is not None, "only what was estimated is compared"
    return candidate.estimate


def _cards(plan: Plan) -> str:
    """The devices that hold the job, the cheapest first."""
    holds = [c for c in plan.candidates if c.verdict != "rejected"]
    names = list(dict.fromkeys(c.offer.device.name for c in holds))
    more = f" and {len(names) - _CARDS_NAMED} more" if len(names) > _CARDS_NAMED else ""
    return (", ".join(names[:_CARDS_NAMED]) or "nothing") + more


def _against(value: float, base: float) -> str:
    return f"{value / base - 1:+.0%}" if base and value != base else ""
