"""The embedded, dated snapshot of prices: offers.csv, read and sanitised.

The file keeps each source's row as it stands (a spot price may be a range); every row that is not
offered is counted with its reason. Its text has no quotes and no commas inside a field, so it is
split here: importing `csv` costs more than reading it (a test reads it with both).
"""

from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path

from msgspec import Struct

from launcher.catalog.gpus import Gpu, find
from launcher.catalog.providers import PROVIDERS, Provider, display_name
from launcher.types import MIB, MICROUSD, Device, Offer

SKYPILOT = "skypilot"  # the executor that provisions clouds
_FILE = Path(__file__).with_name("offers.csv")


class Row(Struct, frozen=True):
    """One line of offers.csv, as text."""

    provider: str
    instance: str
    region: str
    gpu: str
    count: str
    usd_per_gpu_hour: str  # a range for spot: LOW-HIGH
    kind: str
    provisionable: str
    as_of: str
    as_of_basis: str
    source: str
    note: str


class Dropped(Struct, frozen=True):
    """A row that is not offered, and why."""

    row: Row
    reason: str


class Snapshot(Struct, frozen=True):
    offers: tuple[Offer, ...]
    dropped: tuple[Dropped, ...]


def read_rows(text: str) -> tuple[Row, ...]:
    """The rows of a catalog file below its header line. Raises ValueError on a short line."""
    rows = []
    for number, line in enumerate(text.splitlines()[1:], start=2):
        fields = line.split(",")
        if len(fields) != len(Row.__struct_fields__):
            raise ValueError(f"line {number}: {len(fields)} fields")
        rows.append(Row(*fields))
    return tuple(rows)


def sanitise(rows: Iterable[Row]) -> Snapshot:
    """Offers from rows: undated, unknown and unpriced rows are dropped, of two prices for one
    instance the newer stays. Every dropped row is returned with its reason."""
    newest: dict[tuple[str, str, str, bool], tuple[Row, Offer]] = {}
    dropped = []
    for row in rows:
        offer = _offer(row)
        if isinstance(offer, str):
            dropped.append(Dropped(row, offer))
            continue
        key = (offer.provider, offer.instance, offer.region, offer.spot)
        held = newest.get(key)
        if held is None:
            newest[key] = (row, offer)
            continue
        older, newer = sorted((held, (row, offer)), key=_age_and_price)
        newest[key] = newer
        dropped.append(Dropped(older[0], f"superseded by the price of {newer[1].as_of}"))
    return Snapshot(tuple(offer for _, offer in newest.values()), tuple(dropped))


@cache
def snapshot() -> Snapshot:
    """The embedded catalog."""
    text = _FILE.read_text(encoding="utf-8")
    return sanitise(read_rows(text))


def embedded_offers() -> tuple[Offer, ...]:
    """Dated prices that ship with the program; no network."""
    return snapshot().offers


def dropped_reasons() -> dict[str, int]:
    """How many rows of the embedded catalog are not offered, by reason."""
    counts: dict[str, int] = {}
    for entry in snapshot().dropped:
        counts[entry.reason] = counts.get(entry.reason, 0) + 1
    return counts


def _age_and_price(entry: tuple[Row, Offer]) -> tuple[str, int]:
    return entry[1].as_of, entry[1].microusd_per_hour


def _offer(row: Row) -> Offer | str:
    """The row as an offer, or why it is none."""
    try:
        date.fromisoformat(row.as_of)
    except ValueError:
        return "no date: a price of unknown age is not offered"
    provider, card = PROVIDERS.get(row.provider), find(row.gpu)
    if provider is None:
        return f"provider {row.provider} is not known"
    if card is None:
        return f"GPU {row.gpu} is not in the table"
    if not row.count.isdigit() or int(row.count) < 1:
        return f"GPU count {row.count} is not a whole card"
    low, high = _range(row.usd_per_gpu_hour)
    if not 0 < low <= high:
        return f"price {row.usd_per_gpu_hour} is no price"
    spot = row.kind == "spot"
    if spot and "spot" not in provider.capabilities:
        return f"{display_name(row.provider)} has no spot that SkyPilot provisions"
    return _build(row, provider, card, low, high)


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low), float(high or low)
    except ValueError:
        return 0.0, 0.0


def _build(row: Row, provider: Provider, card: Gpu, low: float, high: float) -> Offer:
    count = int(row.count)
    provisionable = row.provisionable == "yes"
    return Offer(
        provider=provider.id,
        instance=row.instance,
        region=row.region,
        device=Device(
            kind="cuda",
            name=card.name,
            usable_bytes=card.usable_bytes,
            total_bytes=card.total_mib * MIB,
            compute_capability=card.compute_capability,
            dense_16bit_tflops=card.dense_16bit_tflops,
            bandwidth_gb_s=card.bandwidth_gb_s,
        ),
        count=count,
        # A range is planned at its upper end: which zone will be had is not known.
        microusd_per_hour=round(high * count * MICROUSD),
        spot=row.kind == "spot",
        as_of=row.as_of,
        source=row.source,
        executor=SKYPILOT if provisionable else None,
        capabilities=provider.capabilities,
        billing_seconds=provider.billing_seconds,
        billing_minimum_seconds=provider.billing_minimum_seconds,
        microusd_per_gib_disk_hour=provider.microusd_per_gib_disk_hour,
        microusd_per_gib_egress=provider.microusd_per_gib_egress,
        provision_seconds=provider.provision_seconds,
        download_mb_s=provider.download_mb_s,
        note="; ".join(_notes(row, provisionable, low, high)),
        interruptions_per_hour=provider.interruptions_per_hour if row.kind == "spot" else None,
    )


def _notes(row: Row, provisionable: bool, low: float, high: float) -> list[str]:
    notes = []
    if not provisionable:
        notes.append(f"SkyPilot cannot provision {row.instance.rpartition('_')[2].lower()}")
    if low < high:
        notes.append(f"${low:g}-{high:g} by zone, planned at the upper end")
    if row.as_of_basis == "earliest":
        notes.append("the date is the earliest possible")
    if row.note:
        notes.append(row.note)
    return notes
