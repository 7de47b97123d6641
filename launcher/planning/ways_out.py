"""Pure: when nothing is chosen, what would change that: higher limits, or a plan made anew."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Protocol

import msgspec
from msgspec import Struct

from jobs.spec import JobSpec
from launcher.catalog.providers import LOCAL, display_name
from launcher.planning.refusals import gib, held_by_limits, usd
from launcher.planning.selection import asked_for
from launcher.types import MICROUSD, Budget, Candidate, Estimate, Offer, Plan
from results.receipt import duration

SHOWN = 3
SHORTEST = 128  # tokens; shorter rows teach little. Assumption.


class Replan(Protocol):
    """The same plan for another job or budget, among these offers; none: those of the plan."""

    def __call__(self, job: JobSpec, budget: Budget, among: Sequence[Offer] = ()) -> Plan: ...


class _Way(Struct, frozen=True):
    worst_microusd: int
    hours_high: float
    said: str
    offer: Offer


def ways_out(plan: Plan, replan: Replan, fixed: bool = False) -> tuple[str, ...]:
    """The nearest ways out, at most three and cheapest first; empty when something is chosen.

    `replan` makes the same plan for another job or budget; a `fixed` job stays as it is. Where
    nothing helps, the least that the job needs is said.
    """
    if plan.chosen is not None:
        return ()
    ways = sorted(
        (*_limits(plan), *_changes(plan, replan, fixed)),
        key=lambda w: (w.worst_microusd, w.hours_high),
    )
    nearest: dict[tuple[str, str, str], _Way] = {}
    for way in ways:
        flag = way.said.split()[0]  # one way of a kind to a card
        nearest.setdefault((way.offer.provider, way.offer.device.name, flag), way)
    return tuple(way.said for way in list(nearest.values())[:SHOWN]) or _needs(plan)


# --- higher limits ---------------------------------------------------------------------------


def _limits(plan: Plan, also: str = "") -> Iterator[_Way]:
    """The caps that would admit what nothing else is in the way of."""
    for candidate, estimate in held_by_limits(plan):
        flags = " ".join(_higher(candidate, estimate, plan.budget))
        if flags:
            yield _way(candidate, estimate, f"{also}{flags} allows")


def _higher(candidate: Candidate, estimate: Estimate, budget: Budget) -> Iterator[str]:
    worst, cap = candidate.worst_microusd, budget.max_cost_microusd
    if worst and (cap is None or worst > cap):
        yield f"--max-cost {_rounded_up(worst / MICROUSD)}"
    if estimate.hours_high > budget.max_hours:
        yield f"--max-hours {_rounded_up(estimate.hours_high)}"


def _rounded_up(value: float) -> str:
    """A figure that people type, never below the one needed: tenths below 10, else whole."""
    return f"{ceil(value * 10) / 10:g}" if value < 10 else str(ceil(value))


# --- another job, or other offers ------------------------------------------------------------


class _Try(Struct, frozen=True):
    how: str
    job: JobSpec
    budget: Budget


def _changes(plan: Plan, replan: Replan, fixed: bool) -> Iterator[_Way]:
    """Of each kind of change the smallest that does."""
    of_the_job = () if fixed else (_strategies, _settings, _lean_heap, _shorter)
    lean = False
    for kind in (*of_the_job, _spot, _anywhere):
        if kind is _shorter and lean:
            continue  # the same memory, and nothing of the rows is lost
        for one in kind(plan.job, plan.budget):
            changed = replan(one.job, one.budget)
            found = changed.chosen
            if found is not None and found.estimate is not None:
                yield _way(found, found.estimate, one.how)
                lean = lean or kind is _lean_heap
                break
            if kind is _anywhere:  # elsewhere, and for more
                elsewhere = _limits(changed, one.how.removesuffix(" it fits") + ", ")
                yield from (way for way in elsewhere if not asked_for(way.offer, plan.budget))


def _strategies(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    for strategy in ("qlora", "lora"):
        if job.strategy not in (strategy, "auto"):
            how = f"--strategy {strategy} instead of {job.strategy} fits"
            yield _Try(how, msgspec.structs.replace(job, strategy=strategy), budget)


def _settings(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    """What the recipe holds up, left to the plan."""
    keys = ("micro_batch", "activation_checkpointing")
    held = [key for key in keys if getattr(job.train, key) != "auto"]
    if held:
        free = msgspec.structs.replace(job.train, **dict.fromkeys(held, "auto"))
        how = " ".join(f"--set train.{key}=auto" for key in held)
        yield _Try(f"{how} fits", msgspec.structs.replace(job, train=free), budget)


def _lean_heap(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    """On a CPU: freed memory goes back to the system at once. Elsewhere it changes nothing."""
    if not job.train.lean_heap:
        train = msgspec.structs.replace(job.train, lean_heap=True)
        how = "--set train.lean_heap=true fits"
        yield _Try(how, msgspec.structs.replace(job, train=train), budget)


def _shorter(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    length = job.train.seq_len // 2
    while length >= SHORTEST:
        train = msgspec.structs.replace(job.train, seq_len=length)
        how = f"--set train.seq_len={length} fits"
        yield _Try(how, msgspec.structs.replace(job, train=train), budget)
        length //= 2


def _spot(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    if not budget.spot:
        yield _Try("--spot allows", job, msgspec.structs.replace(budget, spot=True))


def _anywhere(job: JobSpec, budget: Budget) -> Iterator[_Try]:
    given = {"--on": budget.providers, "--gpu": budget.gpu}
    flags = " and ".join(flag for flag, value in given.items() if value)
    if flags:
        free = msgspec.structs.replace(budget, providers=(), gpu=None)
        yield _Try(f"without {flags} it fits", job, free)


# --- words -----------------------------------------------------------------------------------


def _way(candidate: Candidate, estimate: Estimate, how: str) -> _Way:
    offer, worst = candidate.offer, candidate.worst_microusd
    said = f"{how} {_where(offer)} ({_at_worst(offer, worst, estimate.hours_high)})"
    return _Way(worst, estimate.hours_high, said, offer)


def _where(offer: Offer) -> str:
    device = offer.device
    if offer.provider == LOCAL:
        return f"this machine's {'CPU' if device.kind == 'cpu' else device.name}"
    return f"{device.name} on {display_name(offer.provider)}{' spot' if offer.spot else ''}"


def _at_worst(offer: Offer, worst: int, hours: float) -> str:
    return f"worst {usd(worst)}" if worst or offer.provider != LOCAL else f"{duration(hours)} worst"


def _needs(plan: Plan) -> tuple[str, ...]:
    """Nothing helps: the least memory that the job does with, and the most there is."""
    needs = [c.least_bytes for c in plan.candidates if c.estimate is not None]
    if not needs:
        return ()
    largest = max(c.offer.device.usable_bytes for c in plan.candidates)
    if min(needs) <= largest:
        return ()
    return (f"needs {gib(min(needs))} GiB at least, and the largest has {gib(largest)}",)
