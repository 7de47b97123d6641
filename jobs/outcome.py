"""How a job ends: the errors it knows, and result.json, which it always leaves behind."""

import math
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from jobs import spec


class BadInput(Exception):
    """The spec, the data or the model folder is wrong: one line that says what and where."""


class Diverged(Exception):
    """Training went where no more training helps."""


class PilotFailed(Exception):
    """The pilot showed that the whole run would be hopeless."""


class Stopped(BaseException):
    """The job was told to end: its deadline passed, or it was cancelled.

    No `Exception`: a library's retry, or our own handling of one, must not swallow it.
    """

    def __init__(self, reason: spec.FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason: spec.FailureReason = reason


# torch says it with a class of its own on an accelerator, and with a plain RuntimeError for host
# memory (c10/core/impl/alloc_cpu.cpp), MPS (MPSAllocator.mm) and cuBLAS workspaces.
OUT_OF_MEMORY_CLASS = "OutOfMemoryError"
OUT_OF_MEMORY_TEXT = re.compile(
    r"out of memory|can't allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|CUDNN_STATUS_ALLOC_FAILED|std::bad_alloc",
    re.IGNORECASE,
)


def require_finite(loss: float, what: str) -> float:
    """Raises `Diverged` for a loss that is no number: it would be paid for until the end."""
    if not math.isfinite(loss):
        raise Diverged(
            f"{what} is {loss}: lower train.learning_rate, or look for odd rows in the data"
        )
    return loss


def reason_of(error: BaseException) -> spec.FailureReason:
    """Why the job failed, read from the exception; torch need not be imported."""
    if isinstance(error, BadInput):
        return "BAD_INPUT"
    if isinstance(error, PilotFailed):
        return "PILOT_FAILED"
    if isinstance(error, Stopped):
        return error.reason
    if isinstance(error, KeyboardInterrupt):
        return "CANCELLED"
    named = any(c.__name__ == OUT_OF_MEMORY_CLASS for c in type(error).__mro__)
    if isinstance(error, MemoryError) or named:
        return "OUT_OF_MEMORY"
    if isinstance(error, RuntimeError) and OUT_OF_MEMORY_TEXT.search(str(error)):
        return "OUT_OF_MEMORY"
    return "ERROR"


def failure_of(error: BaseException) -> spec.Failure:
    """The failure as it goes on the wire: one line for people, the traceback where it helps."""
    reason = reason_of(error)
    line = " ".join(str(error).split()) or type(error).__name__
    if reason in ("ERROR", "OUT_OF_MEMORY"):
        line = f"{type(error).__name__}: {line}"
        return spec.Failure(
            reason=reason, message=line, traceback="".join(traceback.format_exception(error))
        )
    return spec.Failure(reason=reason, message=line)


@dataclass
class Outcome:
    """What is known of the job so far; becomes a `Result` whenever it ends."""

    run_id: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, dict[str, spec.Interval]] = field(default_factory=dict)
    gates: tuple[spec.GateResult, ...] = ()
    evaluated_on: Literal["validation", "test"] = "validation"
    answered_on: Literal["validation", "test", "golden"] | None = None
    pilot: spec.PilotResult | None = None
    fit: spec.Fit | None = None
    best_step: int | None = None
    adapter: str | None = None
    steps: int = 0
    resumed_from_step: int = 0
    tokens: int = 0
    tokens_per_second: float = 0.0
    parameters_total: int = 0
    parameters_trainable: int = 0
    peak_memory_bytes: int = 0
    memory_metric: str = ""
    seconds_by_phase: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    tracked: Callable[[], spec.Tracked] | None = None  # asked at the end

    def result(self, failure: spec.Failure | None) -> spec.Result:
        """Figures that are not finite are left out, and said: no result can hold them."""
        known = {k: v for k, v in vars(self).items() if k not in ("warnings", "tracked")}
        known["metrics"] = {
            subject: {name: value for name, value in found.items() if math.isfinite(value)}
            for subject, found in self.metrics.items()
        }
        known["intervals"] = {
            subject: {name: near for name, near in found.items() if near.is_finite}
            for subject, found in self.intervals.items()
        }
        odd = [
            f"{subject}.{name} is {value}: left out"
            for subject, found in self.metrics.items()
            for name, value in found.items()
            if not math.isfinite(value)
        ]
        return spec.Result(
            status="success" if failure is None else "error",
            failure=failure,
            warnings=(*self.warnings, *odd),
            tracked=self.tracked() if self.tracked is not None else None,
            **known,
        )
