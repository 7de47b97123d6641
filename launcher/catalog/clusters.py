"""Clusters that have no price list (Slurm, Kubernetes, SSH pools): what SkyPilot found there when
`launch offers --refresh` asked it, kept with its date, as offers at the owner's prices.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from launcher import paths
from launcher.catalog.gpus import Gpu, cards_called
from launcher.catalog.priced import SKYPILOT, Dropped, Listing, device, microusd, terms
from launcher.catalog.providers import PROVIDERS
from launcher.types import GIB, Device, Offer

# What SkyPilot calls cards otherwise than everybody (sky/utils/gpu_names.py), by our names.
_SKYPILOTS = {"H100-80GB": "H100", "H100-MEGA": "H100-SXM"}


class Share(Struct, frozen=True, kw_only=True):
    """What one job may have of one node, and what SkyPilot says of that."""

    provider: str
    cluster: str  # a Slurm cluster, a Kubernetes context, an SSH pool
    partition: str  # Slurm's; "" elsewhere
    accelerator: str  # as SkyPilot spells it there; "": a whole node that has none
    count: int  # of GPUs
    nodes: int  # that have as many
    node_cpus: float  # of the smallest of them, as its memory
    node_memory_gib: float
    usd_per_hour: float
    why_not: str  # SkyPilot's reason not to take it; "": it does

    @property
    def instance(self) -> str:
        """The place behind the provider's name in SkyPilot's `infra`."""
        return f"{self.cluster}/{self.partition}" if self.partition else self.cluster


class Asked(Struct, frozen=True, kw_only=True):
    """All shares that SkyPilot named at one time."""

    asked_at: str  # ISO date and time, UTC
    skypilot: str  # its version
    shares: tuple[Share, ...]


def keep(asked: Asked) -> None:
    """Write the answer down for every later command. Raises OSError."""
    paths.write_aside(_file(), msgspec.json.format(msgspec.json.encode(asked)))


def listing() -> Listing:
    """What the clusters offered when SkyPilot was last asked; nothing where it never was."""
    try:
        return offered(msgspec.json.decode(_file().read_bytes(), type=Asked))
    except (OSError, msgspec.MsgspecError):  # not asked yet, or by another version
        return Listing((), ())


def offered(asked: Asked) -> Listing:
    """Offers at the prices of that day, and the shares that are none. Pure."""
    offers: list[Offer] = []
    dropped: list[Dropped] = []
    for share in asked.shares:
        found = share.why_not or _device(share)
        source = f"SkyPilot {asked.skypilot}'s price, asked {asked.asked_at}"
        if isinstance(found, str):
            dropped.append(_dropped(share, found, source))
        else:
            offers.append(_offer(share, found, asked.asked_at[:10], source))
    return Listing(tuple(offers), tuple(dropped))


def _device(share: Share) -> Device | str:
    """What the share computes with, or why that is not known."""
    if not share.accelerator:
        return _cpu(share)
    card = _card(share.accelerator)
    return device(card.name) if card else f"GPU {share.accelerator} is not in the table"


def _card(accelerator: str) -> Gpu | None:
    """The least card of the name: a cluster's `A100` may have 40 or 80 GB."""
    cards = cards_called(_SKYPILOTS.get(accelerator, accelerator))
    return min(cards, key=lambda c: (c.usable_bytes, c.dense_16bit_tflops), default=None)


def _cpu(share: Share) -> Device | str:
    """A node without GPUs, taken whole: whole cores and GiB, as SkyPilot asks for them."""
    cores, gib = int(share.node_cpus), int(share.node_memory_gib)
    if not cores or not gib:
        return f"its nodes are listed with {cores} CPUs and {gib} GiB"
    return Device(
        kind="cpu", name="CPU", usable_bytes=gib * GIB, total_bytes=gib * GIB, cores=cores
    )


def _offer(share: Share, found: Device, day: str, source: str) -> Offer:
    provider = PROVIDERS[share.provider]
    card = _card(share.accelerator) if share.accelerator else None
    return Offer(
        provider=provider.id,
        instance=share.instance,
        region=share.cluster,
        device=found,
        count=share.count or 1,
        microusd_per_hour=microusd(share.usd_per_hour),
        spot=False,
        as_of=day,
        source=source,
        executor=SKYPILOT,
        **terms(provider.id),
        note="; ".join(_notes(share, found)),
        accelerator=share.accelerator,
        minimum_driver=card.minimum_driver if card else "",
        origin="SkyPilot",
        enabled=True,  # else SkyPilot would not have been asked
        enabled_as_of=day,
    )


def _notes(share: Share, found: Device) -> Iterator[str]:
    yield f"{share.nodes} node{'s' if share.nodes > 1 else ''}"
    if len(cards_called(_SKYPILOTS.get(share.accelerator, share.accelerator))) > 1:
        yield f"planned as {found.name}, the least that {share.accelerator} may mean"
    if not share.usd_per_hour:
        yield "$0: its owner set no price in SkyPilot's config"


def _dropped(share: Share, why: str, source: str) -> Dropped:
    return Dropped(
        share.provider, share.instance, share.cluster, share.accelerator or "CPU", why, source
    )


def _file() -> Path:
    return paths.catalog_folder() / "clusters.json"
