"""Pure: why an offer is not taken. Each refusal is one line with the number that decided."""

from msgspec import Struct

from launcher.catalog.providers import IMAGES_NEED, LOCAL, TO_ENABLE, display_name
from launcher.types import GIB, MICROUSD, Budget, Estimate, Offer
from results.receipt import duration

# The rank of a refusal groups the rejected: what a flag can change stands first.
OVER_COST, OVER_HOURS, NO_MEMORY, NO_DEVICE, NO_SPOT = range(5)
NO_IMAGE, NOT_ENABLED, NO_EXECUTOR, NOT_ASKED_FOR = range(5, 9)


class Refusal(Struct, frozen=True):
    rank: int
    reason: str


def blocked(offer: Offer, estimate: Estimate, budget: Budget) -> Refusal | None:
    """What no higher limit can change: provisioning, image, spot and memory."""
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
    need, usable = estimate.memory_upper_bytes, offer.device.usable_bytes
    if need > usable:
        word = "free" if offer.provider == LOCAL else "usable"
        return Refusal(NO_MEMORY, f"needs {gib(need)} GiB, {gib(usable)} {word}")
    return None


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
    """Dollars for people: whole ones bare, else cents, rounded up so that a sum is never hidden."""
    cents = -(-microusd // (MICROUSD // 100))
    return f"${cents // 100:,}" if cents % 100 == 0 else f"${cents / 100:,.2f}"


def gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f}"
