"""Pure: why an offer is not taken. Each refusal is one line with the number that decided."""

from collections.abc import Iterator

from msgspec import Struct

from launcher.catalog.providers import IMAGES_NEED, LOCAL, NOBODY, TO_ENABLE, display_name
from launcher.planning.selection import asked_for, nobody_has
from launcher.types import GIB, Budget, Candidate, Estimate, Offer, Plan
from results.receipt import at_most, duration

# The rank of a refusal groups the rejected: what a flag can change stands first.
OVER_COST, OVER_HOURS, NO_OFFER, NO_MEMORY, NO_DEVICE, NO_SPOT = range(6)
NO_IMAGE, NOT_ENABLED, NO_EXECUTOR, NOT_ASKED_FOR = range(6, 10)

LONGEST_HOURS = 10_000.0  # that --max-hours takes


class Refusal(Struct, frozen=True):
    rank: int
    reason: str


def blocked(offer: Offer, estimate: Estimate, budget: Budget) -> Refusal | None:
    """What no higher limit can change: provisioning, image, spot and memory."""
    if offer.provider == NOBODY:
        return _not_offered(offer, estimate, budget)
    if offer.executor is None:
        return Refusal(NO_EXECUTOR, offer.note or "no executor can provision it")
    if offer.enabled is False:
        how = TO_ENABLE.get(offer.provider, "sky check says why")
        return Refusal(NOT_ENABLED, f"not enabled on {offer.enabled_as_of}: {how}")
    if budget.image and not offer.image and offer.provider != LOCAL:
        where, unless = display_name(offer.provider), IMAGES_NEED.get(offer.provider, "")
        why = f"SkyPilot runs no image on {where}{unless}"
        return Refusal(NO_IMAGE, f"{why}; without --image, set-up installs")
    if offer.spot and not budget.spot:
        return Refusal(NO_SPOT, "spot is not allowed; --spot allows it")
    if offer.spot and offer.interruptions_per_hour is None:
        where = display_name(offer.provider)
        return Refusal(NO_SPOT, f"how often {where} takes spot machines back is not known")
    return _no_room(offer, estimate)


def _no_room(offer: Offer, estimate: Estimate) -> Refusal | None:
    need, usable = estimate.memory_upper_bytes, offer.device.usable_bytes
    if need <= usable:
        return None
    word = "free" if offer.provider == LOCAL else "usable"
    return Refusal(NO_MEMORY, f"needs {gib(need)} GiB, {gib(usable)} {word}")


def _not_offered(offer: Offer, estimate: Estimate, budget: Budget) -> Refusal:
    """What nobody offers is never taken; what else is in its way is said first."""
    found = _no_room(offer, estimate) or over_limit(offer, estimate, 0, budget)
    found = found or Refusal(NO_OFFER, "holds it")
    return Refusal(found.rank, f"{found.reason}; {nobody_has(budget)}, so it has no price")


def holds(candidate: Candidate) -> bool:
    """Whether its memory does, whatever else is in its way."""
    found = candidate.estimate
    return found is not None and _no_room(candidate.offer, found) is None


def fits(candidate: Candidate, budget: Budget) -> bool:
    """Whether it holds memory and limits: what nobody offers may, and is no more for that."""
    if candidate.verdict != "rejected":
        return True
    offer, found = candidate.offer, candidate.estimate
    if offer.provider != NOBODY or found is None:
        return False
    return holds(candidate) and over_limit(offer, found, 0, budget) is None


def answer_of(plan: Plan) -> Candidate | None:
    """What an estimate shows of a plan: the best that was asked for, or its nearest miss; what was
    not asked for never."""
    asked = [c for c in plan.candidates if asked_for(c.offer, plan.budget)]
    estimated = [c for c in asked if c.estimate is not None]
    return next(iter((*estimated, *asked)), None)


def held_by_limits(plan: Plan) -> Iterator[tuple[Candidate, Estimate]]:
    """What was asked for and nothing but a limit can be against, which may be raised so far."""
    for candidate in plan.candidates:
        offer, estimate = candidate.offer, candidate.estimate
        if estimate is None or not asked_for(offer, plan.budget):
            continue
        if estimate.hours_high > LONGEST_HOURS:
            continue
        if blocked(offer, estimate, plan.budget) is None:
            yield candidate, estimate


def why_nothing_fits(plan: Plan) -> str:
    """The reason of the offer that is nearest to being chosen: of those that only a limit is
    against, the one that higher limits would admit for the least."""
    if not plan.candidates:
        return "no offer is left"
    first = plan.candidates[0]
    if first.verdict == "rejected":
        held = ((c.worst_microusd, e.hours_high, c.reason) for c, e in held_by_limits(plan))
        return min(held, default=(0, 0.0, first.reason))[-1]
    return first.reason


def over_limit(offer: Offer, estimate: Estimate, worst: int, budget: Budget) -> Refusal | None:
    """The cap and the hours, both held against the worst case."""
    cap = budget.max_cost_microusd
    if cap is not None and worst > cap:
        return Refusal(OVER_COST, f"worst {usd(worst)} > cap {usd(cap)}")
    if estimate.hours_high > budget.max_hours:
        hours = f"{duration(estimate.hours_high)} worst > --max-hours {budget.max_hours:g}"
        return Refusal(OVER_HOURS, hours)
    return None


def usd(microusd: int) -> str:
    """A cap or a worst case as people give it: whole dollars bare, but for none at all."""
    return at_most(microusd).removesuffix(".00") if microusd else at_most(0)


def gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f}"
