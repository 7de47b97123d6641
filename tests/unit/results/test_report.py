from pathlib import Path

from jobs import layout
from jobs.spec import (
    Failure,
    GateResult,
    Interval,
    PilotResult,
    Result,
    StepRecord,
    encode,
)
from results.receipt import Line, Receipt
from results.records import Tail, read_result
from results.report import crossing_note, gate_line, pilot_line, quality_rows, render, sparkline

RECEIPT = Receipt(
    run_id="run-1",
    state="SUCCEEDED",
    reason=None,
    provider="local",
    instance="cpu",
    attempts=2,
    max_cost_microusd=10_000_000,
    spent_microusd=0,
    lines=(
        Line(name="memory", unit="bytes", planned=3 << 30, planned_upper=4 << 30, actual=2 << 30),
    ),
)


def step(number: int, loss: float) -> bytes:
    record = StepRecord(
        at="t",
        step=number,
        steps_total=4,
        epoch=1.0,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=None,
        tokens_per_second=10.0,
        memory_bytes=1,
        seconds=1.0,
        eta_seconds=0.0,
    )
    return encode(record).replace(b"\n", b"") + b"\n"


def test_a_page_with_verdict_quality_curve_and_receipt(tmp_path: Path) -> None:
    result = Result(
        run_id="run-1",
        status="success",
        metrics={"base": {"exact_match": 0.0}, "tuned": {"exact_match": 0.97}},
        gates=(GateResult(metric="exact_match", min=0.9, max=None, value=0.97, passed=True),),
    )
    (tmp_path / layout.RESULT).write_bytes(encode(result))
    (tmp_path / layout.METRICS).write_bytes(b"".join(step(n, 4.0 - n) for n in range(1, 5)))
    page = render(tmp_path, RECEIPT, "the offers")
    assert "pass: exact_match 0.970, at least 0.9" in page
    assert "| exact_match | 0.000 | 0.970 |" in page
    assert "3.0000 at step 1 → 0.0000 at step 4 of 4" in page
    assert "| memory | 3.00 GiB | 4.00 GiB | 2.00 GiB | +50% |" in page
    assert "Spent $0.00 of a cap of $10.00 on local cpu, 2 attempts." in page


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


def test_the_page_says_how_far_the_figures_may_be_off(tmp_path: Path) -> None:
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
    (tmp_path / layout.RESULT).write_bytes(encode(result))
    page = render(tmp_path, RECEIPT, "")
    assert "On the 8 validation rows, answers to the golden set of 40, 95 % intervals" in page
    assert "A gate passes by its value alone" in page


def test_a_failed_pilot_is_told_with_its_figures(tmp_path: Path) -> None:
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
    assert pilot_line(pilot) == (
        "pilot: loss 2.000 → no number in 20 steps on 10 rows, 0.4 s a step; the training takes "
        "60 m 00 s at least of the 30 m 00 s left"
    )
    failure = Failure(reason="PILOT_FAILED", message="the loss is no number")
    result = Result(run_id="run-1", status="error", failure=failure, pilot=pilot)
    (tmp_path / layout.RESULT).write_bytes(encode(result))
    page = render(tmp_path, RECEIPT, "")
    assert "**PILOT_FAILED**: the loss is no number" in page
    assert "no number in 20 steps" in page


def test_text_of_a_model_stays_text(tmp_path: Path) -> None:
    (tmp_path / layout.SAMPLES).write_text('{"question": "a|b", "tuned": "<script>`x`"}\n')
    page = render(tmp_path, RECEIPT, "")
    assert "<script>" not in page
    assert "a&#124;b" in page


def test_a_failure_stands_on_top(tmp_path: Path) -> None:
    failure = Failure(reason="OUT_OF_MEMORY", message="needs more")
    result = Result(run_id="run-1", status="error", failure=failure)
    (tmp_path / layout.RESULT).write_bytes(encode(result))
    assert "**OUT_OF_MEMORY**: needs more" in render(tmp_path, RECEIPT, "")


def test_a_run_without_a_result_says_so(tmp_path: Path) -> None:
    assert "left no result" in render(tmp_path, RECEIPT, "")


def test_the_sparkline_spans_lowest_to_highest() -> None:
    assert sparkline([1.0, 0.5, 0.0]) == "█▅▁"
    assert len(sparkline([float(n) for n in range(1000)])) == 60
    assert sparkline([2.0]) == "▁"


def test_a_tail_gives_whole_lines_once_and_starts_over_when_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.new() == []
    path.write_bytes(b"one\ntwo\nthr")
    assert tail.new() == [b"one", b"two"]
    assert tail.new() == []
    path.write_bytes(b"one\ntwo\nthree\n")
    assert tail.new() == [b"three"]
    path.write_bytes(b"1\n")
    assert tail.new() == [b"1"]


def test_a_tail_starts_over_in_a_longer_file_that_took_the_place(tmp_path: Path) -> None:
    path, other = tmp_path / "lines", tmp_path / "other"
    path.write_bytes(b"one\n")
    tail = Tail(path)
    assert tail.new() == [b"one"]
    other.write_bytes(b"first\nsecond\n")
    other.replace(path)
    assert tail.new() == [b"first", b"second"]


def test_a_tail_goes_on_in_a_copy(tmp_path: Path) -> None:
    path, copy = tmp_path / "lines", tmp_path / "copy"
    path.write_bytes(b"one\n")
    tail = Tail(path)
    tail.new()
    copy.write_bytes(b"one\ntwo\n")
    tail.move(copy)
    assert tail.new() == [b"two"]


def test_a_result_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    (tmp_path / layout.RESULT).write_text('{"run_id": 3}')
    assert read_result(tmp_path) is None
