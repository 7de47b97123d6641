"""Text for people about the catalog: offers, what was left out, what moved."""

from collections.abc import Iterable, Iterator, Sequence

from launcher.catalog.enabled import Check, how_to_enable
from launcher.catalog.merge import age_days
from launcher.catalog.priced import Dropped
from launcher.catalog.providers import CLUSTERS, LOCAL
from launcher.catalog.refresh import Known, Moved, Refreshed
from launcher.display.tables import table
from launcher.planning.refusals import gib
from launcher.types import MICROUSD, Offer

_HEAD = ("provider", "instance", "region", "GPU", "count", "usable GiB")
_PRICES = ("$/h", "spot $/h", "age", "from", "enabled", "note")
_SHOWN_MOVES = 40


def offers_text(
    offers: Sequence[Offer],
    dropped: Sequence[Dropped],
    check: Check | None,
    today: str,
    *,
    every_region: bool = False,
) -> str:
    """One line an instance, at its cheapest region; with `every_region` one line each."""
    lines = [_line(group, today) for group in _groups(offers, every_region)]
    text = table([(*_HEAD, *_PRICES), *lines], right=(4, 5, 6, 7, 8)) if lines else "no offers\n"
    return text + "".join(f"{line}\n" for line in _footer(offers, dropped, check))


def _groups(offers: Iterable[Offer], every_region: bool) -> Iterator[list[Offer]]:
    groups: dict[tuple[object, ...], list[Offer]] = {}
    for o in offers:
        key = (o.provider, o.instance, o.device.name, o.count, o.region if every_region else "")
        groups.setdefault(key, []).append(o)
    yield from sorted(groups.values(), key=_order)


def _order(group: Sequence[Offer]) -> tuple[bool, str, int]:
    """This machine first, as it was found; then each provider's cheapest on-demand price."""
    first = group[0]
    if first.provider == LOCAL:
        return False, "", 0
    demand = [o.microusd_per_hour for o in group if not o.spot]
    return True, first.provider, min(demand or [o.microusd_per_hour for o in group])


def _line(group: Sequence[Offer], today: str) -> list[str]:
    demand = min((o for o in group if not o.spot), key=_price, default=None)
    spot = min((o for o in group if o.spot), key=_price, default=None)
    shown = demand or spot
    assert shown is not None, "a group is never empty"
    elsewhere = {o.region for o in group if o.spot == shown.spot} | set(shown.regions)
    elsewhere -= {shown.region}
    return [
        shown.provider,
        shown.instance,
        shown.region + (f" ({len(shown.regions)})" if shown.regions else _more(elsewhere)),
        shown.device.name,
        str(shown.count),
        gib(shown.device.usable_bytes),
        _usd(demand),
        _usd(spot) + (f" {spot.region}" if spot and spot.region != shown.region else ""),
        f"{age_days(shown, today)} d",
        shown.origin,
        _enabled(shown),
        shown.note,
    ]


def _price(offer: Offer) -> int:
    return offer.microusd_per_hour


def _more(elsewhere: set[str]) -> str:
    return f" +{len(elsewhere)}" if elsewhere else ""


def _usd(offer: Offer | None) -> str:
    return f"{offer.microusd_per_hour / MICROUSD:.3f}" if offer is not None else ""


def _enabled(offer: Offer) -> str:
    return {True: "yes", False: "no", None: "unknown"}[offer.enabled]


def _footer(
    offers: Sequence[Offer], dropped: Sequence[Dropped], check: Check | None
) -> Iterator[str]:
    rows = sum(entry.rows for entry in dropped)
    if rows:
        yield f"{rows:,} rows of the price lists are not offered: launch offers --dropped says why"
    if check is None:
        yield "which providers are enabled is not known: launch offers --refresh asks SkyPilot"
        return
    shown = {offer.provider for offer in offers} | set(CLUSTERS)
    yield f"enabled as of {check.checked_at[:10]}: {', '.join(check.enabled) or 'none'}"
    for provider, how in how_to_enable(check):
        if provider in shown:
            yield f"  to enable {provider}: {how}"


def dropped_text(dropped: Sequence[Dropped]) -> str:
    """What is not offered, by reason, the most frequent first."""
    if not dropped:
        return "every row is offered\n"
    rows = [["rows", "provider", "instance", "region", "GPU", "list", "why"]]
    for d in sorted(dropped, key=lambda d: (-d.rows, d.provider, d.instance)):
        rows.append([str(d.rows), d.provider, d.instance, d.region, d.gpu, d.source, d.reason])
    total = sum(entry.rows for entry in dropped)
    return table(rows, right=(0,)) + f"{total:,} rows\n"


def refreshed_text(found: Refreshed) -> str:
    """What SkyPilot answered, and which prices moved."""
    check = found.check
    lines = [f"SkyPilot {check.skypilot}, {check.checked_at}"]
    lines.append(f"enabled: {', '.join(check.enabled) or 'none'}")
    lines += [f"  to enable {provider}: {how}" for provider, how in how_to_enable(check)]
    for provider, why in found.unread.items():
        lines.append(f"WARNING {provider}: what it has could not be read anew: {why}")
    lines.append(
        f"against {found.against}: {len(found.moved)} prices moved, {found.appeared} are new, "
        f"{found.gone} are gone"
    )
    text = "\n".join(lines) + "\n"
    if not found.moved:
        return text
    rows = [["provider", "instance", "region", "GPU", "kind", "old $/h", "new $/h", "change", "of"]]
    for moved in found.moved[:_SHOWN_MOVES]:
        new = moved.new
        rows.append([
            new.provider, new.instance, new.region, f"{new.count}× {new.gpu}",
            "spot" if new.spot else "on demand", _dollars(moved.old), _dollars(new),
            _change(moved), f"{moved.old.as_of} → {new.as_of}",
        ])  # fmt: skip
    more = len(found.moved) - _SHOWN_MOVES
    return text + table(rows, right=(5, 6, 7)) + (f"{more} more\n" if more > 0 else "")


def _dollars(known: Known) -> str:
    return f"{known.microusd_per_hour / MICROUSD:.3f}"


def _change(moved: Moved) -> str:
    return f"{moved.percent:+.1f} %" if moved.old.microusd_per_hour else "from nothing"
