"""Hours of one job on one offer, term by term, each with a low, an expected and a high figure.

What a pass through the model takes is passes.py's; here is how often it is made.
"""

from math import ceil

from jobs.spec import ResolvedSpec
from launcher.estimate import renting
from launcher.estimate.batch import micro_tokens
from launcher.estimate.passes import (
    answer_seconds,
    forward_seconds,
    reading_seconds,
    rows_of,
    step_seconds,
)
from launcher.estimate.spans import Span
from launcher.estimate.tensors import ModelShape
from launcher.estimate.work import Work
from launcher.types import COLLECT_MINUTES, Device, Offer, TimeTerm

# Starting Python with torch, transformers, peft and trl: about 10 s (measured, November 2026).
IMPORT_SECONDS = Span(6.0, 10.0, 25.0)
# Reading weights from the local disk and placing them, bytes per second. Assumption.
LOAD_BYTES_PER_SECOND = Span(2e9, 8e8, 2e8)
# What several processes reach of as many times one's rate: gradients of adapters are small, and are
# exchanged while the backward pass goes on. Assumption, not measured.
TOGETHER = Span(1.0, 0.93, 0.75)
# How much of max_new_tokens an answer uses. Assumption; a batch runs to its longest.
ANSWER_SHARE = Span(0.2, 0.6, 1.0)


def training(shape: ModelShape, spec: ResolvedSpec, device: Device, work: Work) -> tuple[Span, str]:
    """Seconds of all micro-steps, and why."""
    tokens = max(1, round(work.padded_tokens / work.micro_steps))
    step = step_seconds(shape, spec, device, tokens)
    padding = work.padded_tokens / max(1, work.train_tokens) - 1
    padded = f", {padding:.0%} padding" if padding >= 0.005 else ""
    rate = tokens / step.expected / (1 + padding)
    why = f"{work.train_tokens:,} tokens at {rate:,.0f} a second, {work.micro_steps:,} micro-steps"
    if spec.processes == 1:
        return step * work.micro_steps, why + padded
    shared = _shared(step * ceil(work.micro_steps / spec.processes), spec)
    return shared, f"{why}{padded}, shared by {spec.processes} GPUs"


def _shared(alone: Span, spec: ResolvedSpec) -> Span:
    """A process's micro-steps beside those of the others."""
    if spec.processes == 1:
        return alone
    return Span(*(s / share for s, share in zip(alone, TOGETHER, strict=True)))


def evaluation(
    shape: ModelShape, spec: ResolvedSpec, device: Device, work: Work
) -> tuple[Span, str]:
    """Seconds for all that is measured: after training, of the base model, and in each epoch."""
    epochs = ceil(spec.train.epochs) if spec.train.select_by is not None else 0
    chosen = f"; {epochs} times the {work.validation_rows:,} validation rows" if epochs else ""
    if spec.regression is not None:
        # Training rows that are passed forward: jobs/regression.py TRAIN_ROWS_JUDGED, for the error
        # on what was trained on, and jobs/heads.py PROBED_ROWS, to fit the head.
        seen = min(500, work.train_rows)
        if spec.regression.head == "fitted":
            seen += min(1000, work.train_rows)
        row = work.train_tokens / spec.train.epochs / max(1, work.train_rows)
        seconds = _scoring(shape, spec, device, work.judged_rows, work.judged_tokens)
        seconds = seconds.plus(
            _scoring(shape, spec, device, work.validation_rows, work.validation_tokens)
            * (epochs + 1)
        ).plus(_scoring(shape, spec, device, seen, seen * row))
        why = f"scores of {work.judged_rows:,} rows, {seen:,} training rows{chosen}"
        return seconds, why
    subjects = 2 if spec.eval.compare_base else 1
    seconds = _scoring(shape, spec, device, work.judged_rows, work.judged_tokens) * subjects
    if epochs:
        each = _scoring(shape, spec, device, work.validation_rows, work.validation_tokens)
        seconds = seconds.plus(each * epochs)
    answers = 0
    if spec.eval.generate:
        asked = work.golden_rows or work.judged_rows
        answers = min(asked, spec.eval.limit or asked)
        rounds = subjects + (epochs if spec.train.select_by != "loss" else 0)
        answering = _answering(shape, spec, device, answers, work.question_tokens)
        seconds = seconds.plus(answering * rounds)
    who = "base and tuned" if subjects == 2 else "tuned"
    return seconds, f"{who}: loss on {work.judged_rows:,} rows, {answers:,} answers{chosen}"


def _scoring(
    shape: ModelShape, spec: ResolvedSpec, device: Device, count: int, tokens: float
) -> Span:
    """Seconds to pass `count` rows forward, unpacked, as many at once as in training."""
    if not count:
        return Span(0.0, 0.0, 0.0)
    batches = ceil(count / spec.train.rows_at_once)
    rows = rows_of(shape, count / batches, tokens / count)
    return forward_seconds(shape, spec, device, rows) * batches


def _answering(
    shape: ModelShape, spec: ResolvedSpec, device: Device, answers: int, question: float
) -> Span:
    """Seconds to answer questions of so many tokens: to read them, then word for word."""
    if not answers:
        return Span(0.0, 0.0, 0.0)
    batches = ceil(answers / spec.eval.batch)
    reading = reading_seconds(shape, spec, device, answers / batches, question) * batches
    context = question + spec.eval.max_new_tokens / 2  # on average, of the longest answers
    one = answer_seconds(shape, spec, device, min(answers, spec.eval.batch), context)
    words = spec.eval.max_new_tokens * batches
    return reading.plus(Span(*(s * a * words for s, a in zip(one, ANSWER_SHARE, strict=True))))


def pilot(shape: ModelShape, spec: ResolvedSpec, device: Device, work: Work) -> tuple[Span, str]:
    """Seconds of the pilot: its steps, two losses over its rows, then as many held-out rows judged,
    no more of either than there are (jobs/pilot.py)."""
    settings = spec.pilot
    if settings is None:
        return Span(0.0, 0.0, 0.0), ""
    rows = min(settings.examples, work.train_rows)
    row = work.train_tokens / spec.train.epochs / max(1, work.train_rows)
    padded = work.padded_tokens / spec.train.epochs / max(1, work.train_rows)
    sequences = ceil(rows * padded / spec.train.seq_len) if spec.packs else rows
    batches = ceil(sequences / spec.train.rows_at_once)
    step = step_seconds(shape, spec, device, max(1, round(rows * padded / batches)))
    seconds = _shared(step * _micro_steps(spec, settings.steps, batches), spec)
    held_out = min(settings.examples, work.validation_rows)
    tokens = held_out * work.validation_tokens / max(1, work.validation_rows)
    losses = _scoring(shape, spec, device, rows, rows * row) * 2
    judged = _scoring(shape, spec, device, held_out, tokens)
    seconds = seconds.plus(losses).plus(judged)
    why = f"{settings.steps:,} steps on {rows:,} rows"
    if spec.regression is not None:
        return seconds.plus(judged), f"{why}, then scores of {held_out:,}"  # beside their loss
    if not spec.eval.generate:
        return seconds, why
    answers = min(held_out, spec.eval.limit or held_out)
    asked = _answering(shape, spec, device, answers, work.question_tokens)
    return seconds.plus(asked), f"{why}, then {answers:,} answers"


def _micro_steps(spec: ResolvedSpec, steps: int, batches: int) -> int:
    """Of each process in so many optimizer steps over so few batches: an epoch's last step takes
    what is left of them."""
    epoch = ceil(batches / spec.processes)
    step = max(1, spec.train.effective_batch // (spec.train.rows_at_once * spec.processes))
    epochs, more = divmod(steps, ceil(epoch / step))
    return epochs * epoch + more * step


def terms(
    shape: ModelShape,
    spec: ResolvedSpec,
    offer: Offer,
    work: Work,
    *,
    download_bytes: int,
    weight_bytes: int,
    upload_bytes: int,
    collect_minutes: int = COLLECT_MINUTES,
) -> tuple[TimeTerm, ...]:
    """Every term from the request until nothing is billed any more."""
    found: list[TimeTerm] = []
    rented = offer.provider != "local"
    if rented:
        found += renting.until_ready(offer)
    if download_bytes:
        size = Span(download_bytes, download_bytes, download_bytes)
        why = f"{download_bytes / 1e9:.1f} GB of weights"
        found.append(size.over(renting.network(offer)).term("model download", why))
    load = Span(*(weight_bytes / r for r in LOAD_BYTES_PER_SECOND))
    at_once = spec.train.rows_at_once * spec.processes
    passes = 2 * (2 if spec.train.effective_batch > at_once else 1)  # jobs/longest.py
    first = step_seconds(shape, spec, offer.device, micro_tokens(spec)) * passes
    why = "imports, weights from disk, two steps on the longest rows"
    found.append(IMPORT_SECONDS.plus(load).plus(first).term("load", why))
    stages = {"evaluation": evaluation, "pilot": pilot, "training": training}
    if spec.pilot is None:
        del stages["pilot"]
    for name, seconds_of in stages.items():
        seconds, why = seconds_of(shape, spec, offer.device, work)
        found.append(seconds.term(name, why))
    if rented:
        found += renting.until_gone(offer, upload_bytes, collect_minutes)
    return tuple(found)
