"""All sources of prices behind one interface: of two prices for one thing, the newer."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from fnmatch import fnmatchcase

from launcher import paths
from launcher.catalog import clusters
from launcher.catalog import offers as embedded
from launcher.catalog.priced import ANYWHERE, Dropped, Listing
from launcher.types import Offer


def offers(today: str) -> Listing:
    """What the embedded snapshot, SkyPilot's catalogs on this machine and the clusters that it
    found offer, and leave out."""
    listings = [embedded.snapshot()]
    if paths.skypilot_catalogs().is_dir():
        from launcher.catalog import skypilot  # 5 ms, where there is something to read

        listings.append(skypilot.listing())
    priced = merged(without_ahead(listing, today) for listing in listings)
    found = clusters.listing()
    return Listing((*priced.offers, *found.offers), (*priced.dropped, *found.dropped))


def without_ahead(listing: Listing, today: str) -> Listing:
    """The listing without prices dated more than a day ahead of the clock, which are dropped.

    Such a price would win over every true one and never age. A day ahead is another time zone.
    """
    latest = (date.fromisoformat(today) + timedelta(days=1)).isoformat()
    ahead = [offer for offer in listing.offers if offer.as_of > latest]
    if not ahead:
        return listing
    kept = tuple(offer for offer in listing.offers if offer.as_of <= latest)
    return Listing(kept, (*listing.dropped, *(_dropped(o, _ahead(o, today)) for o in ahead)))


def _ahead(offer: Offer, today: str) -> str:
    return f"dated {offer.as_of}, and this machine's clock says {today}: one of them is wrong"


def merged(listings: Iterable[Listing]) -> Listing:
    """One price for each provider, instance, region and kind: the newest, of equals the dearer.

    A later listing's price wins over one of the same day. A region that stands for several (`any`,
    `us-*`) is the same thing as each of them: a newer price for `any` replaces older ones for a
    region, and the other way round. What was replaced is among the dropped.
    """
    kept: dict[tuple[str, str, bool], list[tuple[int, Offer]]] = {}
    dropped: list[Dropped] = []
    for rank, listing in enumerate(listings):
        dropped += listing.dropped
        for offer in listing.offers:
            kept.setdefault((offer.provider, offer.instance, offer.spot), []).append((rank, offer))
    found: list[Offer] = []
    for ranked in kept.values():
        chosen, replaced = _newest(ranked)
        found += chosen
        dropped += replaced
    return Listing(tuple(found), tuple(dropped))


def _newest(ranked: list[tuple[int, Offer]]) -> tuple[list[Offer], list[Dropped]]:
    regions = {offer.region for _, offer in ranked}
    apart = len(regions) == len(ranked) and not any(map(_is_pattern, regions))
    if apart or len(ranked) == 1:
        return [offer for _, offer in ranked], []
    chosen: list[Offer] = []
    replaced: list[Dropped] = []
    for _, offer in sorted(ranked, key=_by_age, reverse=True):
        newer = _replacement(offer, chosen)
        if newer is None:
            chosen.append(offer)
        else:
            replaced.append(_dropped(offer, f"superseded by the price of {newer.as_of}"))
    order = {id(offer): i for i, (_, offer) in enumerate(ranked)}
    return sorted(chosen, key=lambda o: order[id(o)]), replaced


def _is_pattern(region: str) -> bool:
    return region == ANYWHERE or "*" in region


def _by_age(entry: tuple[int, Offer]) -> tuple[str, int, int]:
    rank, offer = entry
    return offer.as_of, rank, offer.microusd_per_hour


def _replacement(offer: Offer, chosen: Sequence[Offer]) -> Offer | None:
    return next(
        (c for c in chosen if covers(c.region, offer.region) or covers(offer.region, c.region)),
        None,
    )


def covers(pattern: str, region: str) -> bool:
    """Whether a region, or what stands for several, takes in another one."""
    if pattern in (region, ANYWHERE):
        return True
    return "*" in pattern and fnmatchcase(region, pattern)


def _dropped(offer: Offer, reason: str) -> Dropped:
    return Dropped(
        offer.provider, offer.instance, offer.region, offer.device.name, reason, offer.source
    )


def age_days(offer: Offer, today: str) -> int:
    """How old the offer's price is; 0 for one dated ahead."""
    return max(0, (date.fromisoformat(today) - date.fromisoformat(offer.as_of)).days)
