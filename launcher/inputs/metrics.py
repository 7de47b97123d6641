"""Whether the metrics that a job names can be had: to choose by, or to gate it or its export by."""

import math
from collections.abc import Sequence

from jobs.spec import Gate, JobSpec
from jobs.spec.metrics import (
    ANSWERS,
    SCHEMA,
    choosable,
    exported,
    is_own,
    metrics_of,
    own_functions,
)
from launcher.errors import BadInput
from launcher.nearest import nearest


def mistake_in_gates(job: JobSpec) -> str | None:
    """What is wrong with the first bad gate, in one line; None where nothing is.

    A gate whose metric no evaluation gives fails whatever the model learns, and so would every
    rung that the job is climbed to. A bound out of reach is the user's to set.
    """
    for number, gate in enumerate(job.gates):
        mistake = _bounds(gate) or _metric(gate.metric, job)
        if mistake:
            return f"gates[{number}]{mistake}"
    return None


def mistake_in_choice(job: JobSpec) -> str | None:
    """What is wrong with `train.select_by`, in one line: the job would end by it, on a machine that
    is paid by then."""
    name, known = job.train.select_by, choosable(job)
    if name is None or _is_given(name, job, known):
        return None
    return f"train.select_by: this job has no metric {name}{_nearest(name, job, known)}"


def require_exported(gates: Sequence[Gate], job: JobSpec) -> None:
    """Raises BadInput for a gate on what no file's measurement gives."""
    known = exported(job)
    for name in (gate.metric for gate in gates):
        if not _is_given(name, job, known):
            raise BadInput(f"--gate {name}: a file has no such metric{_nearest(name, job, known)}")


def _bounds(gate: Gate) -> str:
    bounds = [bound for bound in (gate.min, gate.max) if bound is not None]
    if not bounds:
        return f": {gate.metric} has no bound; give min or max"
    if not all(math.isfinite(bound) for bound in bounds):
        return f": a bound of {gate.metric} is no number; one that bounds nothing is left out"
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        return f": min {gate.min:g} is above max {gate.max:g}, so nothing passes"
    return ""


def _metric(name: str, job: JobSpec) -> str:
    known = metrics_of(job)
    if _is_given(name, job, known):
        return ""
    if job.task == "sft" and name in (*ANSWERS, SCHEMA):
        missing = "answers: set eval.generate" if not job.eval.generate else "eval.schema"
        return f".metric: {name} needs {missing}"
    return f".metric: this job has no metric {name}{_nearest(name, job, known)}"


def _is_given(name: str, job: JobSpec, known: Sequence[str]) -> bool:
    """By the evaluation, whose own metrics are `known`, or by a function of the user's."""
    return name in known or is_own(name, job.eval)


def _nearest(name: str, job: JobSpec, known: Sequence[str]) -> str:
    choices = [*known, *own_functions(job.eval)]
    near = nearest(name, choices, 1)
    return f"; did you mean {near[0]}?" if near else f" (one of {', '.join(choices)})"
