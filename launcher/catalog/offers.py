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

from launcher.catalog.gpus import find
from launcher.catalog.priced import Dropped, Listing, Price, microusd, offer
from launcher.catalog.providers import PROVIDERS, display_name
from launcher.types import Offer

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


def read_rows(text: str) -> tuple[Row, ...]:
    """The rows of a catalog file below its header line. Raises ValueError on a short line."""
    rows = []
    for number, line in enumerate(text.splitlines()[1:], start=2):
        fields = line.split(",")
        if len(fields) != len(Row.__struct_fields__):
            raise ValueError(f"line {number}: {len(fields)} fields")
        rows.append(Row(*fields))
    return tuple(rows)


def sanitise(rows: Iterable[Row]) -> Listing:
    """Offers from rows; undated, unknown and unpriced ones are dropped, each with its reason."""
    offers, dropped = [], []
    for row in rows:
        reason = _objection(row)
        if reason is None:
            offers.append(_offer(row))
        else:
            dropped.append(
                Dropped(row.provider, row.instance, row.region, row.gpu, reason, row.source)
            )
    return Listing(tuple(offers), tuple(dropped))


@cache
def snapshot() -> Listing:
    """The embedded prices, several of one instance among them: `merge` takes the newest."""
    return sanitise(read_rows(_FILE.read_text(encoding="utf-8")))


def embedded_offers() -> tuple[Offer, ...]:
    """Dated prices that ship with the program, the newest of each instance; no network."""
    from launcher.catalog.merge import merged

    return merged([snapshot()]).offers


def _objection(row: Row) -> str | None:
    """Why the row is not offered."""
    try:
        date.fromisoformat(row.as_of)
    except ValueError:
        return "no date: a price of unknown age is not offered"
    if row.provider not in PROVIDERS:
        return f"provider {row.provider} is not known"
    if find(row.gpu) is None:
        return f"GPU {row.gpu} is not in the table"
    if not row.count.isdigit() or int(row.count) < 1:
        return f"GPU count {row.count} is not a whole card"
    low, high = _range(row.usd_per_gpu_hour)
    if not 0 < low <= high:
        return f"price {row.usd_per_gpu_hour} is no price"
    if row.kind == "spot" and "spot" not in PROVIDERS[row.provider].capabilities:
        return f"{display_name(row.provider)} has no spot that SkyPilot provisions"
    return None


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low), float(high or low)
    except ValueError:
        return 0.0, 0.0


def _offer(row: Row) -> Offer:
    card, count = find(row.gpu), int(row.count)
    assert card is not None, "asked before"
    low, high = _range(row.usd_per_gpu_hour)
    price = Price(
        provider=row.provider,
        instance=row.instance,
        region=row.region,
        card=card.name,
        accelerator="",
        count=count,
        spot=row.kind == "spot",
        low_microusd=microusd(low * count),
        high_microusd=microusd(high * count),
    )
    provisionable = row.provisionable == "yes"
    notes = [] if provisionable else [_unprovisionable(row.instance)]
    notes += ["the date is the earliest possible"] if row.as_of_basis == "earliest" else []
    notes += [row.note] if row.note else []
    return offer(
        price,
        as_of=row.as_of,
        origin="snapshot",
        source=row.source,
        notes=tuple(notes),
        provisionable=provisionable,
    )


def _unprovisionable(instance: str) -> str:
    """Trap 8: RunPod's community prices, which SkyPilot's catalog leaves out."""
    return f"SkyPilot cannot provision {instance.rpartition('_')[2].lower()}"
