"""Where SkyPilot may rent, as of the last time it was asked: a dated file, never a guess."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from launcher import paths
from launcher.catalog.providers import CLUSTERS, TO_ENABLE
from launcher.types import Offer


class Check(Struct, frozen=True, kw_only=True):
    """What SkyPilot answered when `launch offers --refresh` asked it."""

    checked_at: str  # ISO date and time, UTC
    skypilot: str  # its version
    enabled: tuple[str, ...]
    disabled: Mapping[str, str]  # provider → SkyPilot's reason, in one line

    def knows(self, provider: str) -> bool | None:
        """Whether the provider was enabled; None when SkyPilot was not asked about it."""
        if provider in self.enabled:
            return True
        return False if provider in self.disabled else None


def last_check() -> Check | None:
    """The newest answer; None when there is none, or it was written by another version."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=Check)
    except (OSError, msgspec.MsgspecError):
        return None


def keep(check: Check) -> None:
    """Write the answer down for every later command. Raises OSError."""
    paths.write_aside(_file(), msgspec.json.format(msgspec.json.encode(check)))


def marked(offers: Iterable[Offer], check: Check | None) -> tuple[Offer, ...]:
    """The offers, saying whether their provider is enabled; this machine's say so already."""
    return tuple(_marked(offer, check) for offer in offers)


def _marked(offer: Offer, check: Check | None) -> Offer:
    known = check.knows(offer.provider) if check is not None else None
    if check is None or known is None:
        return offer
    return msgspec.structs.replace(offer, enabled=known, enabled_as_of=check.checked_at[:10])


def how_to_enable(check: Check) -> Iterator[tuple[str, str]]:
    """(provider, what to do) for each that was not enabled, priced ones first."""
    for provider in sorted(check.disabled, key=lambda name: (name in CLUSTERS, name)):
        yield provider, TO_ENABLE.get(provider, check.disabled[provider])


def _file() -> Path:
    return paths.catalog_folder() / "enabled.json"
