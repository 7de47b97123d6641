"""What a job says: records while it works, one result when it ends."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import isfinite
from typing import Any, Literal

import msgspec
from msgspec import Struct

from jobs.spec.job import WIRE_VERSION
from jobs.spec.tracking import Tracked

# --- while the job works --------------------------------------------------------------------


class PhaseRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="phase"):
    """The job enters a phase: load, data, longest_batch, evaluate_base, pilot, train, save,
    evaluate, done; those of them that it has."""

    at: str
    phase: str


class StepRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="step"):
    """One optimizer step (or `log_every_steps` of them, averaged)."""

    at: str
    step: int
    steps_total: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float
    memory_bytes: int  # peak so far: CUDA allocated, else resident set
    seconds: float  # training time so far, all attempts
    eta_seconds: float
    tokens: int = 0  # trained on so far, all attempts


class EvalRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="eval"):
    """Loss, and what else was measured, on the validation rows at a step."""

    at: str
    step: int
    loss: float
    epoch: float | None = None  # None: before or after training
    metrics: dict[str, float] = {}


Record = PhaseRecord | StepRecord | EvalRecord

_RECORD: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def records_in(lines: Iterable[bytes]) -> list[Record]:
    """Those of the lines that are records; what a crash tore or zeroed is left out."""
    found: list[Record] = []
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            found.append(_RECORD.decode(line))
    return found


# --- when the job ends ----------------------------------------------------------------------

FailureReason = Literal[
    "BAD_INPUT",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "CANCELLED",
    "PREEMPTED",
    "STALLED",  # said by jobs/watchdog.py: it no longer got on
    "PILOT_FAILED",
    "ERROR",
]


class Failure(Struct, frozen=True, kw_only=True):
    reason: FailureReason
    message: str  # one line for people
    traceback: str = ""


class Interval(Struct, frozen=True, kw_only=True):
    """A 95 % confidence interval of one metric."""

    low: float
    high: float
    n: int  # what was counted or drawn from: rows, or cited ids
    method: str

    @property
    def is_finite(self) -> bool:
        return isfinite(self.low) and isfinite(self.high)


class GateResult(Struct, frozen=True, kw_only=True):
    """A gate passes by its value; `low`, `high` and `n` are the value's interval, if it has one."""

    metric: str
    min: float | None
    max: float | None
    value: float | None  # None: the job did not measure it
    passed: bool
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def crossed(self) -> tuple[Literal["below", "above"], float] | None:
        """The bound that the interval reaches across, and to which side of it: the value alone
        decided. None where the interval lies with the value on one side of every bound."""
        if self.value is None or self.low is None or self.high is None:
            return None
        if self.min is not None and self.low < self.min <= self.high:
            return ("below" if self.value >= self.min else "above"), self.min
        if self.max is not None and self.low <= self.max < self.high:
            return ("above" if self.value <= self.max else "below"), self.max
        return None


class Fit(Struct, frozen=True, kw_only=True):
    """How much worse the model is on rows that it was not trained on."""

    metric: str
    train: float
    validation: float
    gap: float | None  # (validation - train) / train; None: infinite, no error on trained rows
    verdict: str


class PilotResult(Struct, frozen=True, kw_only=True):
    """What a few steps on a few rows showed before the training was paid for."""

    examples: int
    steps: int
    loss_before: float | None  # on the rows that it trained on; None: no number
    loss_after: float | None
    loss_constant: float | None = None  # of the best constant: a fitted head starts below it
    metrics: dict[str, float]  # of the pilot's model, on as many held-out rows
    seconds: float  # the whole pilot
    seconds_per_step: float  # median, the first one left out
    train_seconds: float  # expected for the whole training, at least
    seconds_left: float | None  # to the deadline, after the pilot
    hopeless: tuple[str, ...] = ()  # why to stop; empty: go on


class Result(Struct, frozen=True, kw_only=True):
    """What the job leaves behind, always: written aside and then moved into place.

    `metrics` maps a subject (`base`, `tuned`, `constant`: the best answer that ignores the
    question) to its metrics by name, on the test rows where there are any, else on the validation
    rows; then `validation` holds the tuned model's on those. `loss` is nats per supervised token,
    `perplexity` its exponential. What judges answers was taken on the questions of `answered_on`.
    """

    wire_version: int = WIRE_VERSION
    run_id: str
    status: Literal["success", "error"]
    failure: Failure | None = None
    metrics: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, Interval]] = {}  # of the metrics that have one
    gates: tuple[GateResult, ...] = ()
    evaluated_on: Literal["validation", "test"] = "validation"
    answered_on: Literal["validation", "test", "golden"] | None = None  # None: no answers
    pilot: PilotResult | None = None
    fit: Fit | None = None
    best_step: int | None = None  # of the checkpoint that was kept; None: the last
    adapter: str | None = None  # folder name below the run's folder
    steps: int = 0
    resumed_from_step: int = 0
    tokens: int = 0  # tokens seen in training, all attempts, padding not counted
    tokens_per_second: float = 0.0  # of this attempt's training
    parameters_total: int = 0  # of the base model as loaded, quantised tensors counted whole
    parameters_trainable: int = 0
    peak_memory_bytes: int = 0
    memory_metric: str = ""  # what the peak means: cuda max_memory_allocated, peak resident set
    seconds_by_phase: dict[str, float] = {}
    versions: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    tracked: Tracked | None = None  # beside metrics.jsonl


def encode(value: Struct) -> bytes:
    """Canonical JSON, indented for people, with a final newline.

    Raises `ValueError` for a figure that is not finite: JSON has null for it, which cannot be read
    as a figure again.
    """
    for path in _infinite(msgspec.to_builtins(value)):
        raise ValueError(f"{path} is no finite number")
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _infinite(tree: Any, path: str = "") -> Iterator[str]:
    """Where in it figures are not finite, as `train.epochs` or `gates.0.value`."""
    if isinstance(tree, float) and not isfinite(tree):
        yield path
    named = enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in tree.items() if isinstance(tree, dict) else named:
        yield from _infinite(value, f"{path}.{key}" if path else str(key))
