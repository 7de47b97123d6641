"""The decision table: one job under each strategy, with what each costs beside the first."""

from collections.abc import Sequence

from launcher.catalog.providers import NOBODY
from launcher.display.plans import micro_batch
from launcher.display.tables import table
from launcher.display.warnings import warning_lines
from launcher.planning.refusals import answer_of, fits, gib, holds, usd
from launcher.planning.selection import asked_for, nobody_has
from launcher.types import Candidate, Estimate, Plan
from results.receipt import dollars, duration

_CARDS_NAMED = 4


def comparison_text(plans: Sequence[Plan]) -> str:
    """A row a strategy: the memory it needs, what has it, and its cheapest finished job.

    Only what --on and --gpu leave in; `fits` is of memory alone, whatever else is in the way. The
    need is an upper bound, of the smallest micro-batch and with checkpointing unless the recipe
    says otherwise; on CUDA where any card was estimated. The cheapest job may use more of its card,
    to be faster. Percentages are against the first row's.
    """
    head = ["strategy", "needs GiB", "", "fits", "cheapest", "micro-batch", "GiB there"]
    rows = [[*head, "time", "", "cost", "", "at worst"]]
    needs = [_need(plan) for plan in plans]
    cheapest = [_cheapest(plan) for plan in plans]
    base = next(filter(None, needs), None)
    first = next(filter(None, cheapest), None)
    notes = []
    for plan, need, best in zip(plans, needs, cheapest, strict=True):
        strategy = plan.job.strategy
        if need is None or base is None:
            notes.append(_why_none(plan))
            continue
        row = [strategy, gib(need), _against(need, base), _cards(plan)]
        if best is None or first is None:
            notes.append(_why_none(plan))
            rows.append([*row, "none", *[""] * 7])
            continue
        if best.offer.provider == NOBODY:
            notes.append(f"{strategy}: {best.offer.device_name}: {best.reason}")
        rows.append([*row, *_job(best, first)])
    notes += warning_lines(plans)
    return table(rows, right=(1, 2, 6, 7, 8, 9, 10, 11)) + "".join(f"{note}\n" for note in notes)


def _need(plan: Plan) -> int | None:
    """The least memory the strategy does with, bytes; None where no device can run it."""
    estimated = [c for c in _asked(plan) if c.estimate is not None]
    on_cards = [c for c in estimated if c.offer.device.kind == "cuda"]
    return min((c.least_bytes for c in on_cards or estimated), default=None)


def _asked(plan: Plan) -> list[Candidate]:
    return [c for c in plan.candidates if asked_for(c.offer, plan.budget)]


def _cheapest(plan: Plan) -> Candidate | None:
    return next((c for c in _asked(plan) if fits(c, plan.budget)), None)


def _why_none(plan: Plan) -> str:
    """The nearest miss: the plan has them in that order."""
    nearest = answer_of(plan)
    if nearest is None:
        return f"{plan.job.strategy}: {nobody_has(plan.budget)}"
    if nearest.estimate is None:
        return nearest.reason
    return f"{plan.job.strategy}: not even {nearest.offer.device_name}: {nearest.reason}"


def _job(best: Candidate, first: Candidate) -> list[str]:
    """Where, how, and for how much the cheapest finished job runs."""
    estimate = _estimate(best)
    assert best.spec is not None, "what was estimated has a spec"
    hours, cost = estimate.hours_expected, best.expected_microusd
    costs = [dollars(cost), _against(cost, first.expected_microusd), usd(best.worst_microusd)]
    return [
        f"{best.offer.provider} {best.offer.device_name}",
        micro_batch(best.spec),
        gib(estimate.memory_upper_bytes),
        duration(hours),
        _against(hours, _estimate(first).hours_expected),
        *(costs if best.offer.provider != NOBODY else [""] * 3),
    ]


def _estimate(candidate: Candidate) -> Estimate:
    assert candidate.estimate is not None, "only what was estimated is compared"
    return candidate.estimate


def _cards(plan: Plan) -> str:
    """The devices whose memory holds the job: those that it may have first, the cheapest first."""
    names = list(dict.fromkeys(c.offer.device.name for c in _asked(plan) if holds(c)))
    more = f" and {len(names) - _CARDS_NAMED} more" if len(names) > _CARDS_NAMED else ""
    return (", ".join(names[:_CARDS_NAMED]) or "nothing") + more


def _against(value: float, base: float) -> str:
    return f"{value / base - 1:+.0%}" if base and value != base else ""
