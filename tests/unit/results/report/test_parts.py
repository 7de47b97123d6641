"""Curves, bars, verdicts, and pages of several runs."""

from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Data, GateResult, Model, ResolvedSpec, Result, encode
from results.report import html, markdown
from results.report.compare import Compared, compare_page
from results.report.curves import loss_figure, rate_figure
from results.report.overfitting import verdict
from results.report.overview import Entry, Spend, overview_page
from results.report.page import Bars, Lines, Table
from results.report.quality import dimension_figure, overall_figure
from results.report.run_page import read
from results.report.thin import thinned
from tests.unit.results.report.runs import (
    CURVE,
    DIMENSIONS,
    RECEIPT,
    SFT,
    STUDENT,
    a_run,
    step,
    validation,
)

SPEC = ResolvedSpec(
    model=Model(id="a/b"), data=Data(train="/rows.jsonl"), run_id="run-1", strategy="qlora",
    dtype="bf16", device="cuda", quantization=None, train_sha256="1" * 64,
)  # fmt: skip


def lines(figure) -> dict[str, tuple[tuple[float, float], ...]]:
    assert isinstance(figure.chart, Lines)
    return {series.name: series.points for series in figure.chart.series}


def test_the_curves_are_the_metrics() -> None:
    drawn = lines(loss_figure(CURVE, ""))
    assert drawn["training"] == tuple((n, 4.0 - n / 4) for n in range(1, 9))
    assert drawn["validation"] == ((4, 3.5), (8, 2.5))
    rate = lines(rate_figure(CURVE))["learning rate"]
    assert rate == tuple((n, 1e-3 / n) for n in range(1, 9))
    assert loss_figure((), "") is None


def test_bars_are_the_metrics_by_dimension() -> None:
    chart = dimension_figure(STUDENT, "").chart
    assert isinstance(chart, Bars)
    assert chart.labels == DIMENSIONS
    assert [(s.name, s.values) for s in chart.sets] == [
        ("best constant answer", (1.9, 2.1)),
        ("fine-tuned", (0.4, 0.6)),
    ]
    assert dimension_figure(SFT, "") is None


def test_shares_and_errors_never_share_an_axis() -> None:
    assert overall_figure(SFT, "").chart.labels == ("exact_match",)
    assert overall_figure(STUDENT, "").chart.labels == ("mae",)
    spans = overall_figure(SFT, "").chart.sets[-1].spans
    assert spans == ((0.8, 0.99),)


@pytest.mark.parametrize(
    ("validations", "said"),
    [
        ((validation(4, 2.0), validation(8, 2.1)), "no sign of overfitting"),
        ((validation(4, 2.0), validation(8, 2.6)), "lowest at step 4 (2.000) and has risen"),
        ((validation(4, 4.2), validation(8, 4.1)), "high overfitting, 105% above"),
        ((), ""),
    ],
)
def test_overfitting_is_told_from_the_curves(validations, said: str) -> None:
    told = verdict(SFT, (*(step(n, 4.0 - n / 4) for n in range(1, 9)), *validations))
    assert said in told
    assert bool(told) == bool(said)


def test_overfitting_that_was_measured_wins() -> None:
    told = verdict(STUDENT, CURVE)
    assert "mae on trained rows 0.230, on validation rows 0.390: +70%, high overfitting" in told


def test_a_thinned_table_keeps_ends_and_what_is_rare() -> None:
    rows = tuple((str(n), "x", "v" if n in (37, 99) else "") for n in range(100))
    kept = thinned(Table(caption="c", head=("a", "b", "c"), rows=rows), 5)
    names = [row[0] for row in kept.rows]
    assert names[0] == "0"
    assert {"37", "99"} <= set(names)
    assert len(names) == 6
    assert kept.caption == "c, 6 of 100 rows"


def compared(folder: Path, run_id: str, spec: ResolvedSpec, result: Result) -> Compared:
    folder.mkdir()
    (a_run(folder, result) / layout.SPEC).write_bytes(encode(spec))
    receipt = msgspec.structs.replace(RECEIPT, run_id=run_id)
    return Compared(files=read(folder), receipt=receipt, gpu="RTX4090")


def test_runs_side_by_side(tmp_path: Path) -> None:
    other = msgspec.structs.replace(
        SPEC, run_id="run-2", lora=msgspec.structs.replace(SPEC.lora, r=64)
    )
    missed = msgspec.structs.replace(
        SFT,
        metrics={"tuned": {"exact_match": 0.5}},
        gates=(GateResult(metric="exact_match", min=0.9, max=None, value=0.5, passed=False),),
    )
    page = compare_page(
        [
            compared(tmp_path / "a", "run-1", SPEC, SFT),
            compared(tmp_path / "b", "run-2", other, missed),
        ]
    )
    tables = {b.caption: b for s in page.sections for b in s.blocks if isinstance(b, Table)}
    settings = next(t for c, t in tables.items() if c.startswith("By the recipe"))
    assert settings.rows == (("lora.r", "16", "64"),)
    metrics = {row[0]: row[1:] for row in tables["The fine-tuned model of each run"].rows}
    assert metrics["exact_match"] == ("0.97", "0.5")
    ended = {row[0]: row[1:] for row in tables["How each run ended"].rows}
    assert ended["GPU"] == ("RTX4090", "RTX4090")
    assert ended["gates"] == (
        "pass: exact_match 0.970, at least 0.9",
        "FAIL: exact_match 0.500, at least 0.9",
    )
    assert "not judged on the same data" not in markdown.render(page)
    assert "<h1><span>2 runs compared</span>" in html.render(page)


def test_runs_on_other_rows_do_not_compare(tmp_path: Path) -> None:
    other = msgspec.structs.replace(SPEC, train_sha256="2" * 64)
    page = compare_page(
        [
            compared(tmp_path / "a", "run-1", SPEC, SFT),
            compared(tmp_path / "b", "run-2", other, SFT),
        ]
    )
    assert "not judged on the same data" in markdown.render(page)


def entry(run_id: str, *spent: tuple[str, int], page: str = "") -> Entry:
    return Entry(
        run_id=run_id, state="SUCCEEDED", started="2026-11-20T10:00:00+00:00", model="b",
        strategy="qlora", where="runpod RTX4090", gates="1 of 1 passed",
        spent=tuple(Spend(at=at, microusd=cost) for at, cost in spent), page=page,
    )  # fmt: skip


def test_all_runs_with_the_spend_of_each_week() -> None:
    page = overview_page(
        [
            entry("new", ("2026-11-16T00:00:00+00:00", 1_500_000), page="a b/report.html"),
            entry("old", ("2026-11-15T23:59:59+00:00", 250_000), ("2026-11-01T12:00:00Z", 100_000)),
        ]
    )
    weeks = page.figures[0].data.rows
    assert weeks == (
        ("2026-11-16", "1", "$1.50"),
        ("2026-11-09", "1", "$0.25"),
        ("2026-11-02", "0", "$0.00"),
        ("2026-10-26", "1", "$0.10"),
    )
    assert dict(page.facts)["Spent in all"] == "$1.85"
    assert '<a href="a b/report.html">new</a>' in html.render(page)
    assert "[new](<a b/report.html>)" in markdown.render(page)
    assert "No runs yet" in markdown.render(overview_page([]))
