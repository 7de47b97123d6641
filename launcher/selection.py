"""Pure: what `--on` and `--gpu` mean, and what to say when they mean nothing."""

from collections.abc import Sequence

from launcher.catalog.gpus import cards_called, require_cards
from launcher.catalog.providers import LOCAL, PROVIDERS
from launcher.errors import BadInput
from launcher.types import Budget, Offer

_KINDS = ("cpu", "mps")  # --gpu cpu: this machine's processor


def names_gpu(text: str, offer: Offer) -> bool:
    """Whether `NAME` or `NAME:COUNT` means this offer. A family (`A100`) means all its sizes, and
    a card of this machine goes by the name its driver gives."""
    name, _, number = text.partition(":")
    if number and number != str(offer.count):
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
    """Whether --on and --gpu leave it in."""
    if not on_providers(budget.providers, offer):
        return False
    return budget.gpu is None or names_gpu(budget.gpu, offer)


def require_known(offers: Sequence[Offer], providers: Sequence[str], gpu: str | None) -> None:
    """Raises `BadInput` with the nearest names when `--on` or `--gpu` names nothing we know."""
    known = sorted({LOCAL, *PROVIDERS, *(o.provider for o in offers)})
    for name in providers:
        if name.lower() not in known:
            import difflib  # 10 ms, and only on the way to an error

            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadInput(f"--on {name}: no such provider (one of {', '.join(known)}){hint}")
    if gpu is None:
        return
    name, colon, number = gpu.partition(":")
    if colon and (not number.isdigit() or int(number) < 1):
        raise BadInput(f"--gpu {gpu}: the count after the colon is a whole number from 1")
    if name.lower() not in _KINDS and not any(names_gpu(name, o) for o in offers):
        require_cards(name)
