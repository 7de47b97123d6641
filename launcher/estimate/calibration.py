"""Estimates shifted towards what finished runs measured. Pure: measurements in, factors out.

Of each run there is a ratio, measured / estimated without calibration, for memory and one for the
training time of a token. On their logarithms y, by card, number of cards and strategy,

    y of a run ~ N(y of the card, within²)    y of the card ~ N(0, between²)    k = within²/between²

so n runs with mean ȳ shift the expected figure by exp(ȳ · n / (n + k)), the posterior mean (Gelman
et al., Bayesian Data Analysis, 3rd edition, 2.5): one run a little, many nearly all the way.

The bounds are for the next model, and runs of one model repeat one another: there each of m models
counts once, by the mean of its runs. They lie around exp(ȳ_models · m / (m + k)), and of the
logarithm of their distance from the expected figure this much stays:

    width² = (max(within², s²) + between² · k / (m + k)) / (within² + between²)

the predictive variance after m models against that before any, s² being the variance seen among
the runs: they narrow down to the scatter, and widen where it is larger than was thought. No bound
lies inside what was measured: the upper is at least the highest ratio times the plain figure.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, exp, fsum, log, pow, sqrt
from typing import NamedTuple

import msgspec
from msgspec import Struct

from jobs.spec import Strategy
from launcher.types import CALIBRATION, Device, Estimate, Measurement, MemoryTerm, TimeTerm


class Spread(NamedTuple):
    """Standard deviations of the logarithm of measured / estimated."""

    within: float  # of runs of one strategy on one card
    between: float  # of cards and strategies

    @property
    def k(self) -> float:
        """How many runs weigh as much as what is known without any."""
        return (self.within / self.between) ** 2


# `python -m benchmarks.calibration_spread`, 2026-11-21, published rows of exact length. Memory:
# within 0.121, between 0.097 of 28 rows in six groups; the groups differ in counter and software
# too, and without ms-swift's are not told apart: k = 1.5 is the least that the rows allow.
MEMORY = Spread(within=0.12, between=0.10)
# Time: within 0.149 (18 rows of one card), between 0.238 of five groups on three cards, software
# again not told apart from card. That a CPU's runs scatter alike is an assumption.
TRAINING = Spread(within=0.15, between=0.24)
# A ratio beyond this either way is of something else: a machine that swapped or slept, a card that
# was shared. Assumption; the largest published one is 2.3 (unsloth-readme-2024's Mistral row).
ABSURD = 4.0


class Ratio(NamedTuple):
    """Measured / estimated of one run, and whose model it was."""

    model: str
    value: float

    @property
    def absurd(self) -> bool:
        return not 1 / ABSURD <= self.value <= ABSURD


class Factor(Struct, frozen=True, kw_only=True):
    """What the runs of a card and strategy make of one figure; the module says how."""

    runs: int  # that it rests on
    left_out: tuple[float, ...] = ()  # absurd ratios
    expected: float = 1.0
    centre: float = 1.0  # of the bounds
    width: float = 1.0
    lowest: float = 1.0  # measured ratio
    highest: float = 1.0

    def upper(self, expected: float, high: float) -> float:
        """The upper bound, from the plain figure and its plain upper bound."""
        bound = expected * self.centre * pow(high / expected, self.width)
        return max(bound, expected * self.highest, expected * self.expected)

    def lower(self, expected: float, low: float) -> float:
        bound = expected * self.centre * pow(low / expected, self.width)
        return min(bound, expected * self.lowest, expected * self.expected)

    def __str__(self) -> str:
        left = ", ".join(f"×{ratio:.3g}" for ratio in self.left_out)
        out = f"; left out as absurd: {left}" if left else ""
        return f"×{self.expected:.2f}{out}" if self.runs else out.removeprefix("; ")


class Card(Struct, frozen=True, kw_only=True):
    """What is known of one strategy on one card. None: nothing was measured of it."""

    runs: int  # behind either figure
    memory: Factor | None
    training: Factor | None


Calibration = Mapping[tuple[str, Strategy], Card]
NONE: Calibration = {}


def card_name(device: Device, count: int = 1) -> str:
    """The card by the catalog's name, several with their number; a CPU with its cores.

    The rate depends on both. One card has no number: so it stands in ledgers that know none.
    """
    if device.kind == "cpu":
        return f"{device.name}, {device.cores} cores"
    return device.name if count == 1 else f"{count}× {device.name}"


def calibrate(measurements: Iterable[Measurement]) -> Calibration:
    """Factors by card and strategy, from one measurement a run."""
    found: defaultdict[tuple[str, Strategy], list[Measurement]] = defaultdict(list)
    for one in measurements:
        found[one.card, one.strategy].append(one)
    return {key: _card(runs) for key, runs in found.items()}


def _card(runs: Sequence[Measurement]) -> Card:
    memory = [_ratio(r, r.memory_bytes, r.memory_estimated_bytes) for r in runs]
    training = [_ratio(r, r.training_seconds, r.training_estimated_seconds) for r in runs]
    return Card(
        runs=sum(bool(_sane(pair)) for pair in zip(memory, training, strict=True)),
        memory=factor([r for r in memory if r is not None], MEMORY),
        training=factor([r for r in training if r is not None], TRAINING),
    )


def _ratio(run: Measurement, measured: float | None, estimated: float | None) -> Ratio | None:
    return Ratio(run.model, measured / estimated) if measured and estimated else None


def _sane(ratios: Iterable[Ratio | None]) -> list[Ratio]:
    return [r for r in ratios if r is not None and not r.absurd]


def factor(ratios: Sequence[Ratio], spread: Spread) -> Factor | None:
    """One figure's factor by the formulas of the module; None without any ratio."""
    if not ratios:
        return None
    left_out = tuple(r.value for r in ratios if r.absurd)
    by_model: defaultdict[str, list[float]] = defaultdict(list)
    for ratio in _sane(ratios):
        by_model[ratio.model].append(log(ratio.value))
    logs = [y for model in by_model.values() for y in model]
    if not logs:
        return Factor(runs=0, left_out=left_out)
    runs, models, k = len(logs), len(by_model), spread.k
    before = spread.within**2 + spread.between**2
    after = max(spread.within**2, _variance(logs)) + spread.between**2 * k / (models + k)
    return Factor(
        runs=runs,
        left_out=left_out,
        expected=exp(_mean(logs) * runs / (runs + k)),
        centre=exp(_mean([_mean(y) for y in by_model.values()]) * models / (models + k)),
        width=sqrt(after / before),
        lowest=exp(min(logs)),
        highest=exp(max(logs)),
    )


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    """The sample variance; 0 of a single value, which says nothing of scatter."""
    mean = _mean(values)
    return fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)


# --- applied --------------------------------------------------------------------------------


def calibrated(
    plain: Estimate, card: Card, device: Device, strategy: Strategy, count: int = 1
) -> Estimate:
    """The estimate with what was measured in it: one more term of memory, and one of time.

    The plain terms stay as they are, so the figures without calibration can be had back from any
    plan: a run is never held against what earlier runs have shifted already.
    """
    said = [
        f"{figure} {found}"
        for figure, found in (("memory", card.memory), ("training", card.training))
        if found is not None
    ]
    shifted = _memory(plain, card.memory, device)
    return msgspec.structs.replace(
        shifted,
        time=_time(plain, card.training),
        calibrated_on=card.runs,
        assumptions=(
            *plain.assumptions,
            f"{basis(card.runs, strategy, device, count)}: {', '.join(said)}",
        ),
    )


def basis(measured: int, strategy: Strategy, device: Device, count: int = 1) -> str:
    """What the figures of a strategy on so many devices rest on beside the formulas."""
    said = f"calibrated on {runs(measured)}" if measured else "not calibrated on the runs"
    return f"{said} of {strategy} on {card_name(device, count)}"


def runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _memory(plain: Estimate, found: Factor | None, device: Device) -> Estimate:
    """On a card tensors alone were measured: slack and context stay as they were estimated."""
    if found is None or not found.runs:
        return plain
    cpu = device.kind == "cpu"
    expected, upper = plain.memory_expected_bytes, plain.memory_upper_bytes
    figure = expected if cpu else plain.memory_allocated_bytes
    added = round(figure * (found.expected - 1))
    around = expected + figure * (found.centre - 1)
    bound = ceil(
        max(
            around * pow(upper / expected, found.width),
            expected * found.highest,
            expected + added,
        )
    )
    term = MemoryTerm(
        name=CALIBRATION,
        bytes=added,
        why=f"calibrated on {runs(found.runs)}: {found}",
        seen="process" if cpu else "allocated",
    )
    return msgspec.structs.replace(
        plain,
        memory=(*plain.memory, term),
        memory_expected_bytes=expected + added,
        memory_upper_bytes=bound,
        host_ram_bytes=bound if cpu else plain.host_ram_bytes,
    )


def _time(plain: Estimate, found: Factor | None) -> tuple[TimeTerm, ...]:
    training = next((t for t in plain.time if t.name == "training"), None)
    if found is None or not found.runs or training is None or not training.expected_hours:
        return plain.time
    low, expected, high = training.low_hours, training.expected_hours, training.high_hours
    term = TimeTerm(
        name=CALIBRATION,
        low_hours=found.lower(expected, low) - low,
        expected_hours=expected * (found.expected - 1),
        high_hours=found.upper(expected, high) - high,
        why=f"training calibrated on {runs(found.runs)}: {found}",
    )
    return (*plain.time, term)
