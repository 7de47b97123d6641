"""Folders of runs as their jobs leave them, small."""

from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import EvalRecord, Fit, GateResult, Interval, Record, Result, StepRecord, encode
from results.receipt import Line, Receipt

RECEIPT = Receipt(
    run_id="run-1", state="SUCCEEDED", reason=None, provider="local", instance="cpu", attempts=2,
    max_cost_microusd=10_000_000, spent_microusd=0,
    lines=(
        Line(name="memory", unit="bytes", planned=3 << 30, planned_upper=4 << 30, actual=2 << 30),
    ),
)  # fmt: skip
SFT = Result(
    run_id="run-1",
    status="success",
    metrics={
        "base": {"loss": 2.0, "perplexity": 7.4, "exact_match": 0.0},
        "tuned": {"loss": 0.5, "perplexity": 1.6, "exact_match": 0.97},
    },
    intervals={"tuned": {"exact_match": Interval(low=0.8, high=0.99, n=40, method="Wilson")}},
    gates=(GateResult(metric="exact_match", min=0.9, max=None, value=0.97, passed=True),),
    steps=8,
    versions={"torch": "2.13.0"},
    seconds_by_phase={"train": 9.0},
)
DIMENSIONS = ("clarity", "depth")
STUDENT = Result(
    run_id="run-1",
    status="success",
    evaluated_on="test",
    metrics={
        "constant": {"mae": 2.0, "mae/clarity": 1.9, "mae/depth": 2.1},
        "tuned": {"mae": 0.5, "mae/clarity": 0.4, "mae/depth": 0.6},
    },
    gates=(GateResult(metric="mae", min=None, max=0.4, value=0.5, passed=False),),
    fit=Fit(metric="mae", train=0.23, validation=0.39, gap=0.696, verdict="high overfitting"),
    steps=8,
)


def step(number: int, loss: float) -> StepRecord:
    return StepRecord(
        at="t", step=number, steps_total=8, epoch=number / 4, loss=loss,
        learning_rate=1e-3 / number, grad_norm=None, tokens_per_second=10.0, memory_bytes=1,
        seconds=1.0 * number, eta_seconds=0.0,
    )  # fmt: skip


def validation(number: int, loss: float) -> EvalRecord:
    return EvalRecord(at="t", step=number, loss=loss, epoch=number / 4, metrics={"mae": loss})


CURVE = (
    *(step(n, 4.0 - n / 4) for n in range(1, 5)),
    validation(4, 3.5),
    *(step(n, 4.0 - n / 4) for n in range(5, 9)),
    validation(8, 2.5),
)


def a_run(folder: Path, result: Result | None, seen: tuple[Record, ...] = CURVE) -> Path:
    if result is not None:
        (folder / layout.RESULT).write_bytes(encode(result))
    lines = (msgspec.json.encode(record) + b"\n" for record in seen)
    (folder / layout.METRICS).write_bytes(b"".join(lines))
    return folder


def with_samples(folder: Path, *rows: dict[str, str | None]) -> Path:
    lines = (msgspec.json.encode(row) + b"\n" for row in rows)
    (folder / layout.SAMPLES).write_bytes(b"".join(lines))
    return folder
