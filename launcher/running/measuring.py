"""What an attempt took, beside what its plan had estimated without calibration. Pure.

Like is held against like, or not at all. The peak counts where the estimate's was in training and
the micro-batches were full, as it takes them to be: of shorter rows, or of answers that may end
early, a low peak says nothing of the card; a peak above the estimate always does. The rate is
seconds a token over this attempt's own steps, without the first, which warms up, and without those
after an evaluation, whose time they hold; so a run that ended early, was resumed or chose its best
epoch is measured like any other.
"""

from collections.abc import Sequence

from msgspec import Struct

from jobs.spec import EvalRecord, Record, Result, StepRecord
from launcher.estimate.calibration import card_name
from launcher.estimate.moments import WITHOUT_GRADIENTS
from launcher.types import CALIBRATION, Candidate, Estimate, Measurement

# jobs/memory.py's names of its counters.
ALLOCATED, RESIDENT = "cuda max_memory_allocated", "peak resident set"
# Tokens of the fullest step, of what its micro-batches can hold: a tenth of the activations is less
# than runs scatter. The sample's rows fill 63 %, and its peak is 0.73 of the estimate (2026-11-21).
FULL_SHARE = 0.9
LEAST_STEPS = 5  # timed ones, or the rate is left out. Assumption.


class _Steps(Struct, frozen=True, kw_only=True):
    """The timed steps of an attempt."""

    count: int
    tokens: float
    seconds: float
    most_tokens: float  # of one optimizer step


def measurement(
    model: str, chosen: Candidate, result: Result, seen: Sequence[Record]
) -> Measurement | None:
    """What the attempt that left `result` and `seen` measured; None where it can tell nothing."""
    spec, estimate = chosen.spec, chosen.estimate
    assert spec is not None, "a chosen candidate has a spec"
    assert estimate is not None, "a chosen candidate has an estimate"
    if result.steps <= result.resumed_from_step:
        return None
    if chosen.offer.device.kind == "cuda" and result.memory_metric == RESIDENT:
        return None  # a test cluster's pretended card: it was a processor's work
    steps = _timed(seen, result.resumed_from_step)
    estimated = _same_counter(estimate, chosen.offer.device.kind, result.memory_metric)
    room = spec.train.effective_batch * spec.train.seq_len
    cut_short = result.failure is not None and result.failure.reason == "OUT_OF_MEMORY"
    answering = any(t.name in WITHOUT_GRADIENTS and t.bytes for t in estimate.memory)
    full = steps.most_tokens >= FULL_SHARE * room and not cut_short and not answering
    peak = result.peak_memory_bytes or None
    if peak is None or estimated is None or not (full or peak > estimated):
        peak = estimated = None
    hours = next((t.expected_hours for t in estimate.time if t.name == "training"), 0.0)
    timed = steps.count >= LEAST_STEPS and steps.tokens > 0 and hours > 0
    if peak is None and not timed:
        return None
    expected = hours * 3600 * steps.tokens / max(1, estimate.train_tokens)
    return Measurement(
        card=card_name(chosen.offer.device, chosen.offer.count),
        device=chosen.offer.device.kind,
        strategy=spec.strategy,
        model=model,
        memory_metric=result.memory_metric,
        memory_bytes=peak,
        memory_estimated_bytes=estimated,
        training_tokens=round(steps.tokens) if timed else None,
        training_seconds=steps.seconds if timed else None,
        training_estimated_seconds=expected if timed else None,
    )


def _same_counter(estimate: Estimate, device: str, metric: str) -> int | None:
    """The plain estimate of what the job's counter sees; None where the two do not meet (MPS)."""
    added = sum(t.bytes for t in estimate.memory if t.name == CALIBRATION)
    if device == "cuda" and metric == ALLOCATED:
        return estimate.memory_allocated_bytes - added
    if device == "cpu" and metric == RESIDENT:
        return estimate.memory_expected_bytes - added
    return None


def _timed(seen: Sequence[Record], resumed_from: int) -> _Steps:
    """Between two records of steps with no evaluation between them: steps, tokens, seconds."""
    count, tokens, seconds, most = 0, 0.0, 0.0, 0.0
    before: StepRecord | None = None
    for record in seen:
        if isinstance(record, EvalRecord):
            before = None
        if not isinstance(record, StepRecord) or record.step <= resumed_from:
            continue
        if before is not None and record.seconds > before.seconds and record.step > before.step:
            passed = record.seconds - before.seconds
            done = record.step - before.step
            trained = record.tokens_per_second * passed
            count, tokens, seconds = count + done, tokens + trained, seconds + passed
            most = max(most, trained / done)
        before = record
    return _Steps(count=count, tokens=tokens, seconds=seconds, most_tokens=most)
