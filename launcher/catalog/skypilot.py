"""SkyPilot's own catalogs as they lie on this machine: prices as fetched, no bill.

SkyPilot 0.14.1 keeps one CSV file a provider (sky/catalog/common.py), with the columns in another
order each. Only rows that name a GPU are read, and what they come to is kept until the file or this
package changes: 50,000 rows take a tenth of a second to read and 9 to 27 ms to take up again
(docs/decisions/0009). Nothing is fetched here.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from launcher import paths
from launcher.catalog import gcp
from launcher.catalog.book import Book
from launcher.catalog.priced import Dropped, Listing, Price, offer
from launcher.catalog.providers import PROVIDERS
from launcher.catalog.rules import Row, objection
from launcher.types import Offer

_NEEDED = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")
_SIZE = re.compile(r"'SizeInMiB': ([\d.]+)")
_LEAST_MIB = 1024  # RunPod writes GiB there (trap 5); no card of ours has less than 1 GiB


class Kept(Struct, frozen=True, array_like=True):
    """What a file came to, and of which file and rules that holds."""

    key: tuple[str, int, int, int]
    prices: tuple[Price, ...]
    dropped: tuple[Dropped, ...]


def files() -> Iterator[tuple[str, Path]]:
    """(provider, file) of each catalog that is there."""
    for provider in PROVIDERS:
        path = paths.skypilot_catalogs() / provider / "vms.csv"
        if path.is_file():
            yield provider, path


def fetched_on(path: Path) -> str:
    """The ISO date (UTC) from which the file's prices are.

    When a fetch fails SkyPilot sets the file's time to now and leaves its prices
    (`_update_catalog`); the time of the checksum beside it changes with the prices alone. A file
    placed by hand has none.
    """
    checksum = path.parent.parent / ".meta" / path.parent.name / f"{path.name}.md5"
    seconds = path.stat().st_mtime
    if checksum.exists():
        seconds = min(seconds, checksum.stat().st_mtime)
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def listing() -> Listing:
    """Every offer of the catalogs that are there, and the rows that are none."""
    offers: list[Offer] = []
    dropped: list[Dropped] = []
    for provider, path in files():
        kept = _kept(provider, path)
        as_of, source = fetched_on(path), f"SkyPilot's catalog {provider}/vms.csv, as fetched"
        offers += [
            offer(price, as_of=as_of, origin="SkyPilot", source=source) for price in kept.prices
        ]
        dropped += kept.dropped
    return Listing(tuple(offers), tuple(dropped))


def _kept(provider: str, path: Path) -> Kept:
    try:
        status = path.stat()
        return _read_or_kept(provider, path, status)
    except OSError as error:
        reason = f"not read: {error.strerror or error}"
        return Kept(("", 0, 0, 0), (), (Dropped(provider, "", "", "", reason, _source(provider)),))


def _read_or_kept(provider: str, path: Path, status: os.stat_result) -> Kept:
    key = (str(path), status.st_mtime_ns, status.st_size, _rules_changed_ns())
    store = paths.catalog_folder() / f"{provider}.msgpack"
    try:
        kept = msgspec.msgpack.decode(store.read_bytes(), type=Kept)
        if kept.key == key:
            return kept
    except (OSError, msgspec.MsgspecError):
        pass  # not kept yet, or by another version
    prices, dropped = read(provider, path.read_text(encoding="utf-8", errors="replace"))
    kept = Kept(key, prices, dropped)
    with suppress(OSError):  # a home that cannot be written to: read anew each time
        paths.write_aside(store, msgspec.msgpack.encode(kept))
    return kept


def _rules_changed_ns() -> int:
    here = Path(__file__).parent
    return max(entry.stat().st_mtime_ns for entry in os.scandir(here) if entry.name.endswith(".py"))


def read(provider: str, text: str) -> tuple[tuple[Price, ...], tuple[Dropped, ...]]:
    """Prices and dropped rows of one catalog file. Pure."""
    lines = text.splitlines()
    columns = lines[0].split(",") if lines else []
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        reason = f"not read: no column {', '.join(missing)}"
        whole = Dropped(provider, "", "", "", reason, _source(provider), max(1, len(lines) - 1))
        return (), (whole,)
    book = Book(provider, _source(provider))
    found = _rows(provider, columns, lines[1:])
    if provider == "gcp":
        for row, unpaired in gcp.joined(found):
            book.enter(row, objection(row) or unpaired)
    else:
        for row in found:
            book.enter(row, objection(row))
    return book.prices(), book.dropped()


def _rows(provider: str, columns: Sequence[str], lines: Sequence[str]) -> Iterator[Row]:
    """The rows that name an accelerator, and at GCP the machines that carry one."""
    import csv  # a quoted field is worth it; a machine without catalogs need not wait for it

    at = {name: i for i, name in enumerate(columns)}
    gpu = at["AcceleratorName"]  # before it no field is quoted, in no provider's file
    hosts = gcp.HOSTS if provider == "gcp" else ()
    wanted = [line for line in lines if _field(line, gpu) or line.startswith(hosts)]
    for fields in csv.reader(wanted):
        if len(fields) != len(columns):
            continue
        cell = {name: fields[i] for name, i in at.items()}
        count = _number(cell["AcceleratorCount"])
        yield Row(
            provider=provider,
            instance=cell["InstanceType"],
            accelerator=cell["AcceleratorName"],
            count=count,
            region=cell["Region"].lstrip(", "),  # Vast: `, US, NA`
            zone=cell.get("AvailabilityZone", ""),
            usd=_number(cell["Price"]),
            spot_usd=_number(cell["SpotPrice"]),
            listed_mib=_listed_mib(provider, cell.get("GpuInfo", ""), count),
            architecture=cell.get("Arch", ""),
            vcpus=_number(cell.get("vCPUs", "")),
            host_gib=_number(cell.get("MemoryGiB", "")),
        )


def _field(line: str, index: int) -> str:
    fields = line.split(",", index + 1)
    return fields[index] if len(fields) > index else ""


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _listed_mib(provider: str, info: str, count: float | None) -> int | None:
    """The memory of one card as listed: RunPod's GiB made MiB, Vast's sum of all divided."""
    match = _SIZE.search(info)
    if match is None:
        return None
    size = float(match[1])
    if provider == "vast" and count:
        size /= count
    return round(size * 1024 if size < _LEAST_MIB else size)


def _source(provider: str) -> str:
    return f"SkyPilot's catalog {provider}/vms.csv"
