"""Pure: when nothing is chosen, the flags that would change that, computed, cheapest first."""

from math import ceil

from msgspec import Struct

from jobs.spec import Train
from launcher.catalog.providers import LOCAL, display_name
from launcher.refusals import blocked, filtered, gib, usd
from launcher.types import MICROUSD, Budget, Candidate, Estimate, Offer, Plan

SHOWN = 3


class _Way(Struct, frozen=True):
    worst_microusd: int
    hours_high: float
    flags: str
    offer: Offer


def ways_out(plan: Plan) -> tuple[str, ...]:
    """The nearest ways out, at most three and cheapest first; empty when something is chosen.

    Where no limit helps because nothing fits, what would have to shrink is said instead.
    """
    if plan.chosen is not None:
        return ()
    open_to_limits = [
        (c, c.estimate)
        for c in plan.candidates
        if c.estimate is not None
        and filtered(c.offer, plan.budget) is None
        and blocked(c.offer, c.estimate, plan.budget) is None
    ]
    if not open_to_limits:
        return _must_shrink(plan)
    ways = sorted(
        (_way(c, estimate, plan.budget) for c, estimate in open_to_limits),
        key=lambda way: (way.worst_microusd, way.hours_high),
    )
    nearest: dict[tuple[str, str], _Way] = {}
    for way in ways:
        nearest.setdefault((way.offer.provider, way.offer.device.name), way)
    return tuple(_sentence(way) for way in list(nearest.values())[:SHOWN])


def _way(candidate: Candidate, estimate: Estimate, budget: Budget) -> _Way:
    worst, hours = candidate.worst_microusd, estimate.hours_high
    cap = budget.max_cost_microusd
    flags = []
    if worst and (cap is None or worst > cap):
        flags.append(f"--max-cost {_rounded_up(worst / MICROUSD)}")
    if hours > budget.max_hours:
        flags.append(f"--max-hours {_rounded_up(hours)}")
    return _Way(worst, hours, " ".join(flags), candidate.offer)


def _rounded_up(value: float) -> str:
    """A figure that people type, never below the one needed: tenths below 10, else whole."""
    return f"{ceil(value * 10) / 10:g}" if value < 10 else str(ceil(value))


def _sentence(way: _Way) -> str:
    device = way.offer.device
    if way.offer.provider == LOCAL:
        what = "CPU" if device.kind == "cpu" else device.name
        return f"{way.flags} allows this machine's {what} ({way.hours_high:.1f} h worst)"
    spot = " spot" if way.offer.spot else ""
    where = display_name(way.offer.provider)
    return f"{way.flags} allows {device.name} on {where}{spot} (worst {usd(way.worst_microusd)})"


def _must_shrink(plan: Plan) -> tuple[str, ...]:
    """Nothing is open to higher limits: filters are in the way, or the job fits no single card."""
    ways = []
    if plan.budget.providers or plan.budget.gpu:
        ways.append("drop --on and --gpu: no offer they leave can run this job")
    needs = [c.least_bytes for c in plan.candidates if c.estimate is not None]
    if needs:
        largest = max(c.offer.device.usable_bytes for c in plan.candidates)
        if min(needs) > largest:
            ways.append(
                f"needs {gib(min(needs))} GiB and the largest has {gib(largest)}: "
                f"{' or '.join(_smaller(plan.job.train))} may shrink it"
            )
    if plan.job.strategy in ("lora", "full"):
        ways.append(f"--strategy qlora instead of {plan.job.strategy} keeps the base in 4 bits")
    return tuple(ways)


def _smaller(train: Train) -> list[str]:
    """The settings that still shrink the job, as far as the recipe holds them up."""
    keys = ["train.seq_len=N"]
    if train.micro_batch not in ("auto", 1):
        keys.append("train.micro_batch=auto")
    if train.activation_checkpointing is False:
        keys.append("train.activation_checkpointing=auto")
    return [f"--set {key}" for key in keys]
