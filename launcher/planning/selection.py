"""Pure: what `--on`, `--gpu` and `--region` mean, and what to say when they mean nothing."""

from collections.abc import Iterable, Sequence

from launcher.catalog.gpus import cards_called, require_cards
from launcher.catalog.merge import covers
from launcher.catalog.priced import ANYWHERE
from launcher.catalog.providers import CLUSTERS, LOCAL, NOBODY, PROVIDERS, display_name
from launcher.errors import BadInput
from launcher.nearest import nearest
from launcher.types import Budget, Offer

_KINDS = ("cpu", "mps")  # --gpu cpu: a processor, of this machine or of a cluster


def names_gpu(text: str, offer: Offer) -> bool:
    """Whether `NAME` or `NAME:COUNT` means this offer. A family (`A100`) means all its sizes, and
    a card of this machine goes by the name its driver gives."""
    name, _, number = text.partition(":")
    if number and int(number) != offer.count:
        return False
    device = offer.device
    if name.lower() in _KINDS:
        return device.kind == name.lower()
    if device.name.casefold() == name.casefold():
        return True
    return any(card.name == device.name for card in cards_called(name))


def on_providers(names: Sequence[str], offer: Offer) -> bool:
    """Whether `--on` takes this offer; no names take all."""
    return not names or offer.provider in {name.lower() for name in names}


def asked_for(offer: Offer, budget: Budget) -> bool:
    """Whether --on and --gpu leave it in. What nobody offers is there only where it was asked for,
    and no provider has it."""
    if offer.provider != NOBODY and not on_providers(budget.providers, offer):
        return False
    return budget.gpu is None or names_gpu(budget.gpu, offer)


def left_out(offers: Iterable[Offer], budget: Budget) -> str:
    """Why --on and --gpu leave an offer out: another is asked for, or what nobody has."""
    if any(asked_for(offer, budget) for offer in offers):
        return "left out by --on or --gpu"
    return nobody_has(budget)


def nobody_has(budget: Budget) -> str:
    """That what --on and --gpu ask for is not offered."""
    name, _, number = (budget.gpu or "").partition(":")
    what = f" has {number} × {name}" if number else f" has {name}" if name else ""
    where = " or ".join(display_name(one.lower()) for one in budget.providers)
    return f"no offer{f' on {where}' if where else ''}{what}"


def in_regions(names: Sequence[str], offer: Offer) -> bool:
    """Whether `--region` takes this offer; no names take all, `us-*` takes several.

    An offer whose list does not say where it is (`any`) may be there, and is taken.
    """
    if not names:
        return True
    if offer.provider == LOCAL:
        return False
    here = [region.lower() for region in offer.regions or (offer.region,)]
    return any(covers(n.lower(), h) or covers(h, n.lower()) for n in names for h in here)


def require_known(
    offers: Sequence[Offer],
    providers: Sequence[str],
    gpu: str | None,
    regions: Sequence[str] = (),
    *,
    on: str = "--on",
    card: str = "--gpu",
) -> None:
    """Raises `BadInput` with the nearest names when one of these names nothing we know.

    `on` and `card`: who asked for the providers and for the GPU.
    """
    known = sorted({LOCAL, *PROVIDERS, *(o.provider for o in offers)} - {NOBODY})
    for name in providers:
        if name.lower() in CLUSTERS and not any(o.provider == name.lower() for o in offers):
            raise BadInput(
                f"{on} {name}: nothing is known there to plan with\n"
                "`launch offers --refresh` asks SkyPilot what it has; --dropped: what is left out\n"
                f"to enable it: {CLUSTERS[name.lower()]}"
            )
        if name.lower() not in known:
            near = nearest(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadInput(f"{on} {name}: no such provider (one of {', '.join(known)}){hint}")
    _require_regions(offers, regions)
    if gpu is None:
        return
    name, colon, number = gpu.partition(":")
    if colon and (not number.isdecimal() or int(number) < 1):
        raise BadInput(f"{card} {gpu}: the count after the colon is a whole number from 1")
    if name.lower() not in _KINDS and not any(names_gpu(name, o) for o in offers):
        require_cards(name)


def _require_regions(offers: Sequence[Offer], names: Sequence[str]) -> None:
    known, patterns = _listed_regions(offers)
    for name in names:
        if any(covers(name.lower(), region.lower()) for region in known):
            continue
        if any(covers(pattern, name.lower()) for pattern in patterns):
            continue
        near = nearest(name, known, 3)
        hint = f"nearest: {', '.join(near)}" if near else "see launch offers --all"
        raise BadInput(f"--region {name}: no such region in any price list; {hint}")


def _listed_regions(offers: Sequence[Offer]) -> tuple[set[str], set[str]]:
    """(regions, what stands for several). SkyPilot lists every region of a provider by its name, so
    that the snapshot's `us-*` says nothing more where its catalog is there."""
    clouds = [offer for offer in offers if offer.provider != LOCAL]
    by_name = {offer.provider for offer in clouds if offer.origin == "SkyPilot"}
    known, patterns = set(), set()
    for offer in clouds:
        for region in (offer.region, *offer.regions):
            if "*" not in region:
                known.add(region)
            elif offer.provider not in by_name:
                patterns.add(region)
    return known - {ANYWHERE}, patterns
