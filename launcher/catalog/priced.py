"""What every source of prices comes to: prices of instances, rows that were dropped, and offers."""

from functools import cache
from typing import Any

from msgspec import Struct

from launcher.catalog.gpus import Gpu, find
from launcher.catalog.providers import PROVIDERS
from launcher.types import MIB, MICROUSD, Device, Offer

SKYPILOT = "skypilot"  # the executor that provisions clouds
ANYWHERE = "any"  # a region: the price is the same everywhere, or the list does not say where


class Price(Struct, frozen=True, array_like=True):
    """What one instance costs an hour; of several zones' prices the lowest and the highest."""

    provider: str
    instance: str
    region: str
    card: str  # of gpus.py
    accelerator: str  # as SkyPilot calls it; "": not said
    count: int
    spot: bool
    low_microusd: int
    high_microusd: int
    regions: tuple[str, ...] = ()  # what ANYWHERE stands for

    @property
    def key(self) -> tuple[str, str, str, bool]:
        return self.provider, self.instance, self.region, self.spot


class Dropped(Struct, frozen=True):
    """A row of a price list that is not offered, or several alike, and why."""

    provider: str
    instance: str
    region: str
    gpu: str
    reason: str
    source: str
    rows: int = 1


class Listing(Struct, frozen=True):
    """One source: its offers and what was left out of it."""

    offers: tuple[Offer, ...]
    dropped: tuple[Dropped, ...]


def microusd(usd: float) -> int:
    return round(usd * MICROUSD)


def offer(
    price: Price,
    *,
    as_of: str,
    origin: str,
    source: str,
    notes: tuple[str, ...] = (),
    provisionable: bool = True,
) -> Offer:
    """An offer at the upper end of the zones' prices: which zone will be had is not known.

    Raises KeyError for a provider or a card that the tables do not hold.
    """
    provider = PROVIDERS[price.provider]
    low, high = price.low_microusd, price.high_microusd
    if low < high:
        spread = f"${low / MICROUSD:g}-{high / MICROUSD:g} by zone, planned at the upper end"
        notes = (spread, *notes)
    return Offer(
        provider=provider.id,
        instance=price.instance,
        region=price.region,
        device=device(price.card),
        count=price.count,
        microusd_per_hour=high,
        spot=price.spot,
        as_of=as_of,
        source=source,
        origin=origin,
        executor=SKYPILOT if provisionable else None,
        **terms(provider.id),
        note="; ".join(notes),
        accelerator=price.accelerator,
        regions=price.regions,
        minimum_driver=_card(price.card).minimum_driver,
        interruptions_per_hour=provider.interruptions_per_hour if price.spot else None,
    )


# What a job, its bill or its worst case can tell of a provider's terms.
TERMS = (
    "billing_seconds",
    "billing_minimum_seconds",
    "microusd_per_gib_disk_hour",
    "microusd_per_gib_egress",
    "provision_seconds",
    "download_mb_s",
)


@cache
def terms(provider_id: str) -> dict[str, Any]:
    """The fields of an offer that are the same on all of its provider's machines."""
    provider = PROVIDERS[provider_id]
    return {name: getattr(provider, name) for name in ("capabilities", *TERMS)}


@cache
def device(name: str) -> Device:
    """A rented card of the table. Raises KeyError where the table does not hold it."""
    card = _card(name)
    return Device(
        kind="cuda",
        name=card.name,
        usable_bytes=card.usable_bytes,
        total_bytes=card.total_mib * MIB,
        compute_capability=card.compute_capability,
        dense_16bit_tflops=card.dense_16bit_tflops,
        fp32_tflops=card.fp32_tflops,
        bandwidth_gb_s=card.bandwidth_gb_s,
    )


def _card(name: str) -> Gpu:
    card = find(name)
    if card is None:
        raise KeyError(name)
    return card
