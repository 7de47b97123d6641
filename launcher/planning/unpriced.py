"""Pure: the cards that are asked for and offered by nobody, for `launch estimate` alone.

They have memory and a speed, no price and no executor. refusals.py turns every one of them down,
so that none is ever chosen, possible or a fallback.
"""

from collections.abc import Iterable

from launcher.catalog import host
from launcher.catalog.gpus import cards_called
from launcher.catalog.priced import device
from launcher.catalog.providers import NOBODY
from launcher.planning.selection import asked_for, on_providers
from launcher.types import Budget, Device, Offer


def unpriced(offers: Iterable[Offer], budget: Budget, today: str) -> tuple[Offer, ...]:
    """One for each card that --gpu names and no offer left by --on has; none without --gpu."""
    name, _, number = (budget.gpu or "").partition(":")
    if not name or (number and not number.isdecimal()):
        return ()  # the planner says what is wrong with it
    devices = [device(card.name) for card in cards_called(name)]
    count = int(number or 1)
    if name.lower() == "mps" and count == 1:
        devices += host.m1_devices()
    offers = [o for o in offers if on_providers(budget.providers, o)]
    have = {o.device.name for o in offers if asked_for(o, budget)}
    if any(o.device.kind == "mps" for o in offers):  # this machine's own says what it has
        devices = [d for d in devices if d.kind != "mps"]
    return tuple(_offer(d, count, today) for d in devices if d.name not in have)


def _offer(card: Device, count: int, today: str) -> Offer:
    return Offer(
        provider=NOBODY,
        instance=card.name,
        region="",
        device=card,
        count=count,
        microusd_per_hour=0,  # not known, and shown nowhere
        spot=False,
        as_of=today,
        source="launcher/catalog/gpus.py" if card.kind == "cuda" else "launcher/catalog/host.py",
        executor=None,
    )
