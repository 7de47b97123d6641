"""One card's constants from what benchmarks/measure_gpu.py measured on it, and how good they are.

    .venv/bin/python -m benchmarks.fit_card docs/measured/<card>.csv

Of the rows that had the whole card one half fits the constants, the other scores them: a
checkerboard, so that both have every model and strategy. Printed are both scores and the entry for
launcher/estimate/evidence.py, MEASURED. Ends with 1 where the half that was held out misses a
bar: allocated off by more than 2 % in the median or 5 % at the 95th percentile, a peak above its
upper bound, seconds of a step off by more than 15 % in the median; or where with these constants a
played card's verdict is wrong.
"""

import csv
import statistics
import sys
from collections.abc import Sequence
from itertools import groupby, product
from math import ceil, log
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure_gpu import STUDENT, Card, as_device, shape_of, spec_of
from jobs.spec import ResolvedSpec
from launcher.display.tables import table
from launcher.estimate.evidence import (
    MEASURED,
    PUBLISHED,
    Fitted,
    Overheads,
    Rates,
    overheads,
)
from launcher.estimate.passes import step_seconds
from launcher.estimate.spans import Span
from launcher.estimate.tensors import ModelShape
from launcher.estimate.vram import Memory, memory
from launcher.types import Device

ALLOCATED_MEDIAN, ALLOCATED_P95, SECONDS_MEDIAN = 0.02, 0.05, 0.15
# The next job may be further off than the worst of the half that was fitted: half as much again.
BEYOND = 1.5
LEAST_MARGIN = 0.02
# The constants are tried times these factors, each up, down or as it is, the coarse ones first.
FACTORS = (3.0, 1.6, 1.25, 1.1, 1.04, 1.015)
PASSES_TO_BEGIN_WITH = 7.0  # written and read, forward, again, and backward with the gradients


class Row(NamedTuple):
    """One case, as it was measured. Bytes and seconds."""

    shape: ModelShape
    spec: ResolvedSpec
    device: Device
    granted: int | None
    ran: bool
    allocated: int
    reserved: int
    context: int
    seconds: float

    @property
    def group(self) -> tuple[str, str, str]:
        return self.spec.model.id, self.spec.task, self.spec.strategy

    def need(self) -> Memory:
        return memory(self.shape, self.spec, self.device)

    def tensors(self) -> int:
        """What torch should count as allocated."""
        return sum(t.bytes for t in self.need().terms if t.seen == "allocated")

    def estimated(self, rates: Rates) -> Span:
        """Seconds of a step."""
        tokens = self.spec.train.micro_batch * self.spec.train.seq_len
        return step_seconds(self.shape, self.spec, self.device, tokens, rates)


def read(file: Path) -> list[Row]:
    with file.open(newline="") as rows:
        return [row_of(row) for row in csv.DictReader(rows)]


def row_of(row: dict[str, str]) -> Row:
    flags = (row["checkpointing"] == "True", row["packing"] == "True")
    case = (int(row["seq_len"]), int(row["micro_batch"]), *flags, int(row["r"]))
    student = STUDENT if row["task"] == "regression" else None
    spec = spec_of(row["model"], row["strategy"], case, "cuda", student)
    card = Card(row["card"], int(row["total_bytes"]), None, row["versions"])
    return Row(
        shape=shape_of(spec),
        spec=spec,
        device=as_device(card, "cuda"),
        granted=int(row["granted_bytes"]) if row["granted_bytes"] else None,
        ran=row["outcome"] == "ok",
        allocated=int(row["allocated_bytes"]),
        reserved=int(row["reserved_bytes"]),
        context=int(row["context_bytes"]),
        seconds=float(row["step_seconds"]),
    )


def halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that ran with the whole card, every other one of each model's cases."""
    found: tuple[list[Row], list[Row]] = ([], [])
    whole = [row for row in rows if row.ran and row.granted is None]
    for i, (_, group) in enumerate(groupby(whole, lambda row: row.group)):
        for j, row in enumerate(group):
            found[(i + j) % 2].append(row)
    return found


# --- fitting --------------------------------------------------------------------------------


def fitted(rows: Sequence[Row], source: str) -> Fitted:
    """The constants that these rows ask for."""
    return Fitted(rates=_rates(rows), overheads=_overheads(rows, source))


def _rates(rows: Sequence[Row]) -> Rates:
    """The least error of the logarithm, all constants moved together; then the spans."""

    def of(constants: Sequence[float]) -> Rates:
        share, launch, nf4, passes = (Span(c, c, c) for c in constants)
        return Rates(
            share=share,
            launch_seconds_per_layer=launch,
            nf4_bytes_per_weight=nf4,
            passes_over_kept=passes,
        )

    def error(constants: Sequence[float]) -> float:
        if constants[0] > 1.0:  # of the data sheet's rate
            return float("inf")
        known = of(constants)
        return sum(abs(log(row.estimated(known).expected / row.seconds)) for row in rows)

    begun = (PUBLISHED.share, PUBLISHED.launch_seconds_per_layer, PUBLISHED.nf4_bytes_per_weight)
    best = [*(span.expected for span in begun), PASSES_TO_BEGIN_WITH]
    least = error(best)
    for factor in FACTORS:
        improved = True
        while improved:
            improved = False
            for moves in product((-1, 0, 1), repeat=len(best)):
                tried = [c * factor**move for c, move in zip(best, moves, strict=True)]
                if any(moves) and (found := error(tried)) < least:
                    best, least, improved = tried, found, True
    off = [row.seconds / row.estimated(of(best)).expected for row in rows]
    low, high = min(1.0, *off) ** BEYOND, max(1.0, *off) ** BEYOND
    share, launch, nf4, passes = best
    return Rates(
        share=_rounded(share / low, share, share / high),
        launch_seconds_per_layer=_rounded(launch * low, launch, launch * high),
        nf4_bytes_per_weight=_rounded(nf4 * low, nf4, nf4 * high),
        passes_over_kept=_rounded(passes * low, passes, passes * high),
    )


def _rounded(*figures: float) -> Span:
    return Span(*(float(f"{figure:.3g}") for figure in figures))


def _overheads(rows: Sequence[Row], source: str) -> Overheads:
    slack = round(statistics.median(_slack(row) for row in rows), 2)
    context = max(row.context for row in rows)
    above = [
        (row.reserved + row.context) / (row.tensors() + slack * _passing(row) + context) - 1
        for row in rows
    ]
    return Overheads(
        slack=slack,
        margin=ceil(100 * max(LEAST_MARGIN, BEYOND * max(above))) / 100,
        context_bytes=context,
        context_source=source,
    )


def _slack(row: Row) -> float:
    """What torch's allocator held beyond its tensors, as a share of what comes and goes."""
    return max(0.0, (row.reserved - row.allocated) / _passing(row))


def _passing(row: Row) -> float:
    """Bytes that come and go at the peak, by our model."""
    slack = next(t.bytes for t in row.need().terms if t.name == "allocator slack")
    return slack / overheads(row.device).slack


# --- scoring --------------------------------------------------------------------------------


class Score(NamedTuple):
    """How one half's rows compare with the estimate; errors as shares, always positive."""

    rows: int
    allocated_median: float
    allocated_p95: float
    reserved_median: float  # with the context, against the expected peak
    above_upper: int
    seconds_median: float
    seconds_worst: float
    outside: int  # of the low-high span

    @property
    def holds(self) -> bool:
        return (
            self.allocated_median <= ALLOCATED_MEDIAN
            and self.allocated_p95 <= ALLOCATED_P95
            and not self.above_upper
            and self.seconds_median <= SECONDS_MEDIAN
        )


def score(rows: Sequence[Row]) -> Score:
    """By the constants that plans have for the card now."""
    needs = [row.need() for row in rows]
    allocated = sorted(abs(row.tensors() / row.allocated - 1) for row in rows)
    peaks = [row.reserved + row.context for row in rows]
    rates = MEASURED[rows[0].device.name].rates
    spans = [row.estimated(rates) for row in rows]
    seconds = [abs(s.expected / row.seconds - 1) for row, s in zip(rows, spans, strict=True)]
    return Score(
        rows=len(rows),
        allocated_median=statistics.median(allocated),
        allocated_p95=allocated[ceil(0.95 * len(allocated)) - 1],
        reserved_median=statistics.median(
            abs(need.expected_bytes / peak - 1) for need, peak in zip(needs, peaks, strict=True)
        ),
        above_upper=sum(peak > need.upper_bytes for need, peak in zip(needs, peaks, strict=True)),
        seconds_median=statistics.median(seconds),
        seconds_worst=max(seconds),
        outside=sum(not s.low <= row.seconds <= s.high for row, s in zip(rows, spans, strict=True)),
    )


class Verdicts(NamedTuple):
    held: int
    careful: int  # refused, and would have run
    wrong: int  # said to fit, and did not


def verdicts(rows: Sequence[Row]) -> Verdicts:
    """What we would have said of the card, or of the one that was played, and what happened."""
    fits = [_fits(row) for row in rows]
    return Verdicts(
        held=sum(fit == row.ran for fit, row in zip(fits, rows, strict=True)),
        careful=sum(row.ran and not fit for fit, row in zip(fits, rows, strict=True)),
        wrong=sum(fit and not row.ran for fit, row in zip(fits, rows, strict=True)),
    )


def _fits(row: Row) -> bool:
    need = row.need()
    if row.granted is None:
        return need.upper_bytes <= row.device.total_bytes
    context = sum(t.bytes for t in need.terms if t.name == "CUDA context")
    return need.upper_bytes - context <= row.granted


def shown(name: str, found: Score) -> list[str]:
    return [
        name,
        str(found.rows),
        f"{found.allocated_median:.1%}",
        f"{found.allocated_p95:.1%}",
        f"{found.reserved_median:.1%}",
        str(found.above_upper),
        f"{found.seconds_median:.1%}",
        f"{found.seconds_worst:.1%}",
        str(found.outside),
    ]


HEAD = ["half", "rows", "allocated", "p95", "reserved", "above upper", "a step", "worst", "outside"]


def main() -> None:
    file = Path(sys.argv[1])
    rows = read(file)
    mine, others = halves(rows)
    name = mine[0].device.name
    MEASURED[name] = fitted(mine, f"measured, docs/measured/{file.name}")
    ours, theirs = score(mine), score(others)
    print(f"{name}: errors in the median unless it says otherwise")
    print(table([HEAD, shown("fitted", ours), shown("held out", theirs)], right=range(1, 9)))
    found = verdicts(rows)
    print(f"verdicts: {found.held} held, {found.careful} refused that would have run,", end=" ")
    print(f"{found.wrong} said to fit that did not\n")
    print(f'MEASURED["{name}"] = {MEASURED[name]}')
    sys.exit(0 if theirs.holds and not found.wrong else 1)


if __name__ == "__main__":
    main()
