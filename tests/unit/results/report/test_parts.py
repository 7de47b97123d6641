"""Curves, bars and verdicts."""

import pytest

from results.report.curves import loss_figure, rate_figure
from results.report.overfitting import verdict
from results.report.page import Bars, Lines, Table
from results.report.quality import dimension_figure, overall_figure
from results.report.thin import thinned
from tests.unit.results.report.runs import (
    CURVE,
    DIMENSIONS,
    SFT,
    STUDENT,
    step,
    validation,
)


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


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        ((), "Training loss 3.7500 at step 1 of 8."),
        ((validation(1, 3.5),), "of 8. Validation loss 3.5000 at step 1."),
        (
            (validation(1, 3.5), validation(4, 2.5)),
            "3.5000 at step 1 → 2.5000 at step 4, lowest 2.5000 at step 4.",
        ),
    ],
)
def test_one_point_is_said_once(judged, said: str) -> None:
    figure = loss_figure((step(1, 3.75), *judged), "")
    assert figure is not None
    assert figure.note.endswith(said)


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


@pytest.mark.parametrize(
    "validations", [(validation(8, 0.003),), (validation(4, 0.001), validation(8, 0.003))]
)
def test_a_run_that_knows_every_row_is_not_called_overfitted(validations) -> None:
    told = verdict(SFT, (*(step(n, 0.001) for n in range(1, 9)), *validations))
    assert told.endswith("validation loss 0.003 at step 8 (+0.002): no sign of overfitting.")


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
