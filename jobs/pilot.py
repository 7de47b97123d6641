"""The pilot: a few steps on a few rows before the training, to stop a hopeless run for cents.

It trains the loaded model itself, with a trainer of its own, and puts every weight back
afterwards, so that the training draws the same curve as without a pilot (a test holds the two
against each other).
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout, metrics
from jobs.aside import write_aside
from jobs.attempt import Attempt
from jobs.memory import free_memory
from jobs.outcome import PilotFailed
from jobs.spec import Pilot, PilotResult, ResolvedSpec, encode
from jobs.spec.metrics import SCHEMA
from jobs.stop import seconds_until
from jobs.weights_aside import weights_aside


@dataclass(frozen=True)
class Trial:
    """What a task gives its pilot."""

    tuner: Any  # the run's trainer: its model is borrowed, the rest is not touched
    train: Any  # encoded rows to draw the pilot's from
    validation: Any
    make: Callable[[ResolvedSpec, Path, Any], Any]  # a trainer of the same model
    loss: Callable[[Any, Any], float]  # of a trainer on rows
    judge: Callable[[int], dict[str, float]]  # the model now, on so many held-out rows
    # Of the best constant on rows: a head that was fitted starts below what training first
    # reaches, so what counts is to be better than a constant.
    constant: Callable[[Any], float] | None = None


def run(a: Attempt, trial: Trial) -> None:
    """Phase pilot. Raises `PilotFailed` with all reasons; a pilot that passed is not repeated."""
    settings = a.job.pilot
    assert settings is not None, "run is called where the spec asks for a pilot"
    a.progress.enter("pilot")
    known = passed_before(a.folder / layout.PILOT)
    if known is not None or a.resume is not None:
        a.outcome.pilot = known
        return
    began_at = time.monotonic()
    found = try_out(a, trial, settings)
    seconds = time.monotonic() - began_at
    left = seconds_until(a.job.deadline) if a.job.deadline is not None else None
    found = msgspec.structs.replace(found, seconds=seconds, seconds_left=left)
    reasons = hopeless(
        a.job, settings, found, a.progress.seconds_by_phase.get("evaluate_base", 0.0)
    )
    a.outcome.pilot = msgspec.structs.replace(found, hopeless=reasons)
    print(f"pilot: loss {found.loss_before} -> {found.loss_after}, "
          f"{found.seconds_per_step:.2f} s a step", flush=True)  # fmt: skip
    if reasons:
        raise PilotFailed("; ".join(reasons))
    if a.ranks.first:
        write_aside(a.folder / layout.PILOT, encode(a.outcome.pilot))


def passed_before(path: Path) -> PilotResult | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PilotResult)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def try_out(a: Attempt, trial: Trial, settings: Pilot) -> PilotResult:
    """Train, judge, and put the weights back. How long it took is not filled in."""
    with weights_aside(a, trial.tuner.model) as folder:
        return train_and_judge(a, trial, settings, folder)


def train_and_judge(a: Attempt, trial: Trial, settings: Pilot, folder: Path) -> PilotResult:
    from transformers import set_seed

    from jobs import strategies
    from jobs.callbacks import StepTimes

    set_seed(a.job.seed)
    rows = trial.train.shuffle(seed=a.job.seed)
    rows = rows.select(range(min(settings.examples, len(rows))))
    tuner = trial.make(job_of(a.job), folder, rows)
    strategies.widen_adapter(a.job, tuner.model)  # TRL casts a quantised model's adapter again
    times = StepTimes()
    tuner.add_callback(times)
    tuner.args.max_steps = settings.steps
    tuner.args.set_save(strategy="no")
    tuner.args.logging_steps = 1
    before = trial.loss(tuner, rows)
    tuner.unprepared()
    tuner.train()
    after = trial.loss(tuner, rows) if times.finite else float("nan")
    judged: dict[str, float] = {}
    if isfinite(after):
        held_out = trial.validation.select(range(min(settings.examples, len(trial.validation))))
        judged = {"loss": trial.loss(tuner, held_out)} | trial.judge(settings.examples)
    micro_steps = micro_steps_of(trial.tuner) * a.job.train.epochs
    a_step = statistics.median(times.seconds[1:] or times.seconds)
    found = PilotResult(
        examples=len(rows),
        steps=len(times.seconds),
        loss_before=_finite(before),
        loss_constant=_finite(None if trial.constant is None else trial.constant(rows)),
        loss_after=_finite(after),
        metrics={name: value for name, value in judged.items() if isfinite(value)},
        seconds=0.0,
        seconds_per_step=a_step,
        train_seconds=micro_steps * a_step / micro_steps_a_step(tuner),
        seconds_left=None,
    )
    del tuner
    free_memory()
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def job_of(job: ResolvedSpec) -> ResolvedSpec:
    """The run's settings for a few steps: from the first at the full learning rate."""
    train = msgspec.structs.replace(
        job.train, schedule="constant", warmup_steps=0, select_by=None, patience=None
    )
    return msgspec.structs.replace(job, train=train)


def micro_steps_of(tuner: Any) -> int:
    """Forward and backward passes of one epoch, on one process."""
    return ceil(len(tuner.train_dataset) / tuner.args.train_batch_size)


def micro_steps_a_step(tuner: Any) -> float:
    """Of the pilot, on average: its rows may not fill one step of the run's.

    Its passes are never larger than the run's (rows packed together may fill less), so the time
    expected of the training is the least that it can take.
    """
    found = micro_steps_of(tuner)
    return found / ceil(found / tuner.args.gradient_accumulation_steps)


def hopeless(
    job: ResolvedSpec, settings: Pilot, found: PilotResult, evaluation_seconds: float
) -> tuple[str, ...]:
    """Why the run should not be paid for; empty where nothing speaks against it.

    `evaluation_seconds`: what judging took for the base, and will take again for the tuned model.
    """
    reasons = []
    before, after = found.loss_before, found.loss_after
    steps = f"{found.steps} steps on {found.examples} rows"
    if after is None:
        reasons.append(f"the loss is no number after {steps}: lower train.learning_rate")
    elif before is None:
        reasons.append(
            f"the loss of the untrained model on {found.examples} rows is no number: look for odd "
            "rows in the data"
        )
    elif after > max(before, found.loss_constant or 0.0) * settings.max_loss_ratio:
        than = "it" if (found.loss_constant or 0.0) <= before else "the best constant's"
        reasons.append(
            f"the loss went from {before:.4g} to {after:.4g} in {steps}, not to "
            f"{settings.max_loss_ratio:g} of {than}: try another train.learning_rate, or look at "
            "the rows"
        )
    judged_as_json = {gate.metric for gate in job.gates} & {*metrics.JSON_NAMES, SCHEMA}
    if (
        settings.answers_must_parse
        and judged_as_json
        and found.metrics.get("json_parse_rate") == 0.0
    ):
        reasons.append(
            f"no answer to {found.examples} held-out rows parses as JSON, which the gates need: "
            "give pilot.steps more, or set pilot.answers_must_parse: false"
        )
    needed = found.train_seconds + evaluation_seconds
    if found.seconds_left is not None and needed > found.seconds_left:
        reasons.append(
            f"at {found.seconds_per_step:.2g} s a step the rest takes {needed:.0f} s at least, "
            f"and the deadline leaves {found.seconds_left:.0f}: allow more, or train less"
        )
    return tuple(reasons)
