"""Constants are read from a card's file, and scored on rows that they have not seen."""

import csv
import random
from pathlib import Path

import pytest

from benchmarks import fit_card
from benchmarks.measure_gpu import Card, Case, Measured, append, as_device, row_of, specs
from launcher.estimate.evidence import MEASURED, Fitted, Overheads, Rates
from launcher.estimate.spans import Span
from launcher.types import GIB, MIB

NAME = "H200"
CARD = Card("NVIDIA H200", 140 * GIB, (9, 0), "torch 2")
TRUE = Fitted(
    rates=Rates(
        share=Span(0.62, 0.62, 0.62),
        launch_seconds_per_layer=Span(0.0031, 0.0031, 0.0031),
        nf4_bytes_per_weight=Span(31.0, 31.0, 31.0),
        passes_over_kept=Span(12.0, 12.0, 12.0),
    ),
    overheads=Overheads(slack=0.33, margin=0.0, context_bytes=480 * MIB, context_source="told"),
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card on which our model is right but for its constants and some noise; it is not known."""
    monkeypatch.setitem(MEASURED, NAME, TRUE)
    noise = random.Random(1)
    path = tmp_path / f"{NAME}.csv"
    device = as_device(CARD, "cuda")
    for model in ("0.5B", "1.5B", "7B"):
        for spec in specs([model], "cuda"):
            for granted in (None, 24_000_000_000):
                case = Case(spec, granted)
                row = fit_card.row_of(written(case, Measured("ok")))
                reserved = sum(t.bytes for t in row.need().terms if t.seen != "process")
                tokens = row.need()
                ran = reserved <= (granted or device.total_bytes)
                found = Measured(
                    outcome="ok" if ran else "OUT_OF_MEMORY",
                    allocated_bytes=int(row.tensors() * noise.uniform(0.995, 1.005)),
                    reserved_bytes=int(reserved * noise.uniform(0.99, 1.01)),
                    context_bytes=480 * MIB,
                    step_seconds=row.estimated(TRUE.rates).expected * noise.uniform(0.97, 1.03),
                )
                append(path, row_of(CARD, case, tokens, found if ran else Measured(found.outcome)))
    monkeypatch.delitem(MEASURED, NAME)
    return path


def written(case: Case, found: Measured) -> dict[str, str]:
    """The row as it comes back from a file."""
    nothing = fit_card.Memory(terms=(), expected_bytes=0, upper_bytes=0)
    return {k: str(v) for k, v in row_of(CARD, case, nothing, found).items()}


def change(path: Path, **columns: str) -> None:
    """The last row of the whole card says something else."""
    with path.open(newline="") as rows:
        found = list(csv.DictReader(rows))
    row = [row for row in found if not row["granted_bytes"] and row["outcome"] == "ok"][-1]
    row |= columns
    path.unlink()
    for row in found:
        append(path, row)


def fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["fit_card", str(path)])
    monkeypatch.setattr(fit_card, "MEASURED", MEASURED)
    with pytest.raises(SystemExit) as ended:
        fit_card.main()
    return int(str(ended.value.code))


@pytest.fixture(autouse=True)
def unknown_again() -> object:
    yield
    MEASURED.pop(NAME, None)


def test_both_halves_have_every_model_and_case_and_no_row_in_common(file: Path) -> None:
    both = fit_card.halves(fit_card.read(file))
    assert abs(len(both[0]) - len(both[1])) <= 2
    seen = [{row.group for row in half} for half in both]
    assert seen[0] == seen[1]
    cases = [{row.spec.train for row in half if row.spec.regression is None} for half in both]
    assert cases[0] == cases[1]
    keys = [{(row.group, row.spec.train, row.spec.lora.r) for row in half} for half in both]
    assert not keys[0] & keys[1]


def test_a_card_s_constants_are_found_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(file, monkeypatch) == 0
    printed = capsys.readouterr().out
    found = MEASURED[NAME]
    assert found.rates.share.expected == pytest.approx(0.62, rel=0.06)
    assert found.rates.passes_over_kept.expected == pytest.approx(12.0, rel=0.25)
    assert found.rates.nf4_bytes_per_weight.expected == pytest.approx(31.0, rel=0.15)
    assert found.rates.share.low > found.rates.share.expected > found.rates.share.high
    assert found.overheads.slack == pytest.approx(0.33, abs=0.06)
    assert found.overheads.context_bytes == 480 * MIB
    line = printed.splitlines()[-1].partition(" = ")[2]
    names = {c.__name__: c for c in (Fitted, Overheads, Rates, Span)}
    assert eval(line, names) == found  # what it prints can be pasted
    assert "0 said to fit that did not" in printed


@pytest.mark.parametrize(
    "columns",
    [{"reserved_bytes": str(130 * GIB)}, {"outcome": "OUT_OF_MEMORY"}],
)
def test_a_peak_above_its_bound_fails(
    file: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, str]
) -> None:
    rows = fit_card.read(file)
    change(file, **columns)
    _, others = fit_card.halves(rows)
    whole = [row for row in rows if row.ran and row.granted is None]
    assert whole[-1] in others or "outcome" in columns
    assert fit(file, monkeypatch) == 1


def test_hours_that_no_constants_explain_fail(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open(newline="") as rows:
        found = list(csv.DictReader(rows))
    file.unlink()
    noise = random.Random(2)
    for row in found:
        row["step_seconds"] = str(float(row["step_seconds"]) * noise.choice([0.5, 2.0]))
        append(file, row)
    assert fit(file, monkeypatch) == 1
