"""The sound rows of one price list, gathered by instance and region; and those left out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from launcher.catalog.gpus import gpu
from launcher.catalog.priced import ANYWHERE, Dropped, Price, microusd
from launcher.catalog.rules import Row, card_meant, no_discount


class _Machine(NamedTuple):
    instance: str
    card: str  # of gpus.py
    accelerator: str  # as the list calls it
    cards: int


class Book:
    """Rows of one file as they come in, by instance and region; zones are only a spread."""

    def __init__(self, provider: str, source: str) -> None:
        self._provider, self._source = provider, source
        self._usd: dict[_Machine, dict[tuple[str, bool], list[float]]] = {}  # by region and spot
        self._out: dict[tuple[str, str, str], list[str]] = {}  # instance, GPU, reason → regions

    def enter(self, row: Row, reason: str | None) -> None:
        if reason is not None:
            self._leave_out(row, reason)
            return
        card = card_meant(row.provider, row.accelerator, row.instance, row.listed_mib)
        assert not isinstance(card, str), "the rules let no row through whose card is in doubt"
        assert row.count is not None, "nor one without a count"
        machine = _Machine(row.instance, card.name, row.accelerator, int(row.count))
        zones = self._usd.setdefault(machine, {})
        if row.usd:
            zones.setdefault((row.region, False), []).append(row.usd)
        spot_reason = no_discount(row)
        if spot_reason is not None:
            self._leave_out(row, spot_reason)
        elif row.spot_usd is not None:
            zones.setdefault((row.region, True), []).append(row.spot_usd)

    def _leave_out(self, row: Row, reason: str) -> None:
        self._out.setdefault((row.instance, row.accelerator, reason), []).append(row.region)

    def prices(self) -> tuple[Price, ...]:
        self._leave_out_larger_twins()
        return tuple(
            Price(
                provider=self._provider,
                instance=machine.instance,
                region=region,
                card=machine.card,
                accelerator=machine.accelerator,
                count=machine.cards,
                spot=spot,
                low_microusd=low,
                high_microusd=high,
                regions=regions,
            )
            for machine, zones in self._usd.items()
            for spot in (False, True)
            for region, low, high, regions in _folded(_spreads(zones, spot))
        )

    def _leave_out_larger_twins(self) -> None:
        """Trap 6 again: one instance under two cards is offered as the smaller of them."""
        twins: dict[str, list[_Machine]] = {}
        for machine in self._usd:
            twins.setdefault(machine.instance, []).append(machine)
        for machines in twins.values():
            smallest, *larger = sorted(machines, key=_total_bytes)
            for machine in larger:
                reason = f"also listed with {smallest.card}: which of them comes is not known"
                regions = self._out.setdefault((machine.instance, machine.accelerator, reason), [])
                regions += (region for region, _ in self._usd.pop(machine))

    def dropped(self) -> tuple[Dropped, ...]:
        return tuple(
            Dropped(
                self._provider, instance, _where(regions), gpu, reason, self._source,
                len(regions),
            )
            for (instance, gpu, reason), regions in self._out.items()
        )  # fmt: skip


def _total_bytes(machine: _Machine) -> tuple[int, str]:
    return gpu(machine.card).usable_bytes * machine.cards, machine.card


def _spreads(zones: dict[tuple[str, bool], list[float]], spot: bool) -> dict[str, tuple[int, int]]:
    return {
        region: (microusd(min(usd)), microusd(max(usd)))
        for (region, is_spot), usd in zones.items()
        if is_spot is spot
    }


def _where(regions: Iterable[str]) -> str:
    names = sorted(set(regions))
    return names[0] if len(names) == 1 else f"{len(names)} regions"


def _folded(
    by_region: dict[str, tuple[int, int]],
) -> Iterator[tuple[str, int, int, tuple[str, ...]]]:
    """(region, lowest, highest, regions): one entry where every region has the same price."""
    if len(by_region) > 1 and len(set(by_region.values())) == 1:
        ((low, high),) = set(by_region.values())
        yield ANYWHERE, low, high, tuple(sorted(by_region))
        return
    for region, (low, high) in by_region.items():
        yield region, low, high, ()
