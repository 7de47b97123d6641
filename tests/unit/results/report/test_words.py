import msgspec

from jobs.spec import Fit, GateResult, Interval, PilotResult, Result
from results.report.overfitting import verdict
from results.report.words import (
    crossing_note,
    file_size,
    fit_line,
    gate_line,
    judged_on,
    pilot_line,
    quality_rows,
    short_device,
    sparkline,
)


def gate(value: float, least: float | None, most: float | None, passed: bool) -> GateResult:
    bounds = {"min": least, "max": most, "low": 0.8014, "high": 0.9742, "n": 40}
    return GateResult(metric="coverage", value=value, passed=passed, **bounds)


def test_a_gate_whose_interval_crosses_its_bound_says_so() -> None:
    near = gate(0.925, 0.9, None, True)
    assert gate_line(near) == (
        "pass: coverage 0.925 (0.80 to 0.97 of 40), at least 0.9: the interval reaches below 0.9"
    )
    missed = gate_line(gate(0.925, 0.95, None, False))
    assert missed.startswith("FAIL: coverage 0.925 (0.80 to 0.97 of 40), at least 0.95: ")
    assert missed.endswith("reaches above 0.95")
    assert gate_line(gate(0.925, None, 0.93, True)).endswith("reaches above 0.93")
    assert gate_line(gate(0.925, None, 0.9, False)).endswith("reaches below 0.9")
    assert gate_line(gate(0.925, 0.5, None, True)).endswith("at least 0.5")
    assert "too few" in crossing_note([near])
    assert crossing_note([gate(0.925, 0.5, None, True)]) == ""


def test_the_page_says_how_far_the_figures_may_be_off() -> None:
    near = Interval(low=0.8014, high=0.9742, n=40, method="Wilson, 95 %")
    result = Result(
        run_id="run-1",
        status="success",
        metrics={"base": {"loss": 2.0}, "tuned": {"loss": 0.5, "exact_match": 0.925}},
        intervals={"tuned": {"exact_match": near, "loss": Interval(low=0.4, high=0.6, n=8,
                                                                   method="bootstrap")}},
        answered_on="golden",
        gates=(gate(0.925, 0.9, None, True),),
    )  # fmt: skip
    assert quality_rows(result)[1:] == [
        ["loss", "2.000", "0.500 (0.400 to 0.600)"],
        ["exact_match", "n/a", "0.925 (0.801 to 0.974)"],
    ]
    assert judged_on(result) == (
        "On the 8 validation rows, answers to the golden set of 40, 95 % intervals in brackets"
    )


def test_a_failed_pilot_is_told_with_its_figures() -> None:
    pilot = PilotResult(
        examples=10,
        steps=20,
        loss_before=2.0,
        loss_after=None,
        metrics={},
        seconds=9.0,
        seconds_per_step=0.4,
        train_seconds=3600.0,
        seconds_left=1800.0,
        hopeless=("the loss is no number",),
    )
    unknown = msgspec.structs.replace(pilot, loss_before=None)
    assert pilot_line(unknown).startswith("pilot: loss no number → no number in 20 steps")
    assert pilot_line(pilot) == (
        "pilot: loss 2.000 → no number in 20 steps on 10 rows, 0.4 s a step; the training takes "
        "60 m 00 s at least of the 30 m 00 s left"
    )


def test_what_is_no_number_is_told_so() -> None:
    fit = Fit(metric="mae", train=0.0, validation=0.3, gap=None, verdict="high overfitting")
    said = "mae on trained rows 0.000, on validation rows 0.300: high overfitting"
    assert fit_line(fit) == said
    result = Result(run_id="r", status="success", fit=fit)
    assert (
        verdict(result, []) == f"{said}. The model makes no error on rows that it was trained on."
    )


def test_the_sparkline_spans_lowest_to_highest() -> None:
    assert sparkline([1.0, 0.5, 0.0]) == "█▅▁"
    assert len(sparkline([float(n) for n in range(1000)])) == 60
    assert sparkline([2.0]) == "▁"


def test_a_processor_is_called_by_what_tells_it_from_others() -> None:
    assert short_device("Intel(R) Xeon(R) Processor @ 2.90GHz") == "Intel Xeon"
    assert short_device("AMD EPYC 7B13 64-Core Processor") == "AMD EPYC 7B13 64-Core"
    assert short_device("local 8× H100-SXM") == "local 8× H100-SXM"
    assert short_device("Processor") == "Processor"


def test_a_files_size_has_three_digits() -> None:
    sizes = (3_580_000, 1_118_656, 9_996_000, 104_857_600, 999_999_999, 4_370_000_000, 12_300)
    assert [file_size(size) for size in sizes] == [
        "3.58 MB", "1.12 MB", "10.0 MB", "105 MB", "1000 MB", "4.37 GB", "12.3 kB",
    ]  # fmt: skip
