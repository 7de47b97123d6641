"""Our memory model against the committed simulation, docs/measured/oracle.csv."""

import statistics
from collections.abc import Callable

import msgspec
import pytest

from benchmarks.vram_oracle import CASES, TERMS, modelled, residuals, rows, timeline_of
from launcher.estimate.vram import Timeline

# The bars for the peak, and tighter ones for each term: what a term is off by must not hide
# in the others. Layers before the last are modelled as the first of them alone.
PEAK_MEDIAN, PEAK_WORST = 0.02, 0.05
TERM_MEDIAN, TERM_WORST = 0.002, 0.03
MEDIANS = {"layers": 0.02}

SIMULATED = rows()
LINES = [timeline_of(case) for case, _ in SIMULATED]

Change = Callable[[Timeline], Timeline]


def scaled(name: str, factor: float) -> Change:
    """One term of the model made larger or smaller, wherever it stands."""

    def size(own: int, of: str) -> int:
        return round(own * factor) if of == name else own

    def change(line: Timeline) -> Timeline:
        replace = msgspec.structs.replace
        return replace(
            line,
            standing=tuple(replace(t, bytes=size(t.bytes, t.name)) for t in line.standing),
            gradients=size(line.gradients, "gradients"),
            through=size(line.through, "saved activations"),
            moments=tuple(
                replace(
                    m,
                    saved=size(m.saved, "saved activations"),
                    gradients=size(m.gradients, "gradients"),
                    own=size(m.own, m.name),
                )
                for m in line.moments
            ),
        )

    return change


def off_by(change: Change = lambda line: line) -> dict[str, list[float]]:
    """Of each term, how far all rows are off, as shares."""
    found: dict[str, list[float]] = {term: [] for term in TERMS}
    for (case, simulated), line in zip(SIMULATED, LINES, strict=True):
        for term, off in residuals(simulated, modelled(case, change(line))).items():
            found[term].append(abs(off))
    return found


def missed(found: dict[str, list[float]]) -> list[str]:
    """The terms that are outside their bars."""
    return [
        term
        for term, off in found.items()
        if statistics.median(off) > MEDIANS.get(term, TERM_MEDIAN) or max(off) > TERM_WORST
    ]


def names() -> list[str]:
    """Every term of the model that any row has."""
    standing = {t.name for line in LINES for t in line.standing}
    moments = {m.name for line in LINES for m in line.moments}
    return sorted(standing | moments | {"gradients", "saved activations"})


def test_the_file_holds_all_cases() -> None:
    assert [case for case, _ in SIMULATED] == list(CASES)
    assert len(CASES) >= 30
    answered = [simulated for _, simulated in SIMULATED if simulated["prompts"]]
    assert len(answered) >= 10
    assert any(simulated["prompts"] > simulated["last layer"] for simulated in answered)
    assert any(simulated["last token"] > simulated["prompts"] for simulated in answered)


def test_the_peak_is_met() -> None:
    off = off_by()["peak"]
    assert statistics.median(off) <= PEAK_MEDIAN
    assert max(off) <= PEAK_WORST


def test_every_term_is_met() -> None:
    assert missed(off_by()) == []


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("name", names())
def test_a_term_that_is_off_by_five_percent_is_noticed(name: str, factor: float) -> None:
    assert missed(off_by(scaled(name, factor)))
