"""Regression distillation: a student learns an oracle's scores. Load → train → save → judge.

The student reads a text and gives one number a dimension (transformers' sequence classification
with a linear head). It is judged beside the best constant: the training rows' mean scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from jobs import layout, longest, pilot, scores
from jobs.attempt import (
    Attempt,
    callbacks_of,
    load_base,
    require_model,
    save,
    start_from,
    train,
    trained_parameters,
)
from jobs.data import Line, Rows, read_data
from jobs.gates import judge as judge_gates
from jobs.gates import write_gates
from jobs.metrics import require_choosable
from jobs.outcome import BadInput, require_finite
from jobs.progress import now
from jobs.replay import with_replay
from jobs.samples import Sample, write_review, write_samples
from jobs.sources import set_environment
from jobs.spec import EvalRecord, Regression, ResolvedSpec, ScoresRow, scores_of
from jobs.versions import versions

# The error on the training rows is taken on this many of them at most, drawn by the seed.
TRAIN_ROWS_JUDGED = 500


@dataclass(frozen=True)
class Loaded:
    """The student with its rows, encoded."""

    tuner: Any  # jobs.trainer.RegressionTrainer
    tokenizer: Any
    rows: Rows
    train: Any  # datasets.Dataset
    validation: Any
    judged: Any


def run(a: Attempt) -> None:
    loaded = load(a)
    trial = pilot_of(a, loaded)
    longest.run(a, trial, None)
    if a.job.pilot is not None:
        pilot.run(a, trial)
    train(a, loaded.tuner)
    save(a, loaded.tuner, loaded.tokenizer)
    judge(a, loaded)


def load(a: Attempt) -> Loaded:
    """Phases load and data. What costs nothing to check comes before what takes minutes."""
    job, asked = a.job, task_of(a)
    local = require_model(a)
    require_choosable(job)
    rows = with_replay(job, read_data(job, a.folder), a.folder)
    rows.say()
    a.outcome.warnings += rows.warnings
    targets = [targets_of(lines, asked) for lines in (rows.train, rows.validation, rows.judged)]
    set_environment(job, model_is_local=local is not None)
    from jobs import strategies, trainer
    from jobs.arguments import regression_arguments
    from jobs.heads import fit_head

    trainer.quiet()
    a.outcome.versions = versions()
    model, tokenizer = load_base(a, local)

    a.progress.enter("data")
    a.outcome.evaluated_on = "test" if rows.test else "validation"
    train_set, validation, judged = (
        encoded(tokenizer, lines, wanted, job.train.seq_len)
        for lines, wanted in zip((rows.train, rows.validation, rows.judged), targets, strict=True)
    )
    if asked.head == "fitted" and a.resume is None:
        head = getattr(model, strategies.HEAD)
        error = fit_head(model, head, train_set, trainer.padded(tokenizer), job.eval.batch)
        print(f"head fitted to the untouched model: leave-one-out mae {error:.4f}", flush=True)
    model = strategies.with_adapter(job, model)
    strategies.widen_adapter(job, model)
    tuner = trainer.RegressionTrainer(
        **what_trains(asked, model, tokenizer),
        args=regression_arguments(job, a.folder),
        train_dataset=train_set,
        eval_dataset=validation,
        callbacks=callbacks_of(a),
    )
    start_from(a, tuner)
    a.outcome.parameters_trainable = trained_parameters(tuner.model)
    return Loaded(tuner, tokenizer, rows, train_set, validation, judged)


def what_trains(asked: Regression, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the run's trainer and a pilot's have in common."""
    from jobs import trainer

    return {
        "loss": asked.loss,
        "model": model,
        "data_collator": trainer.padded(tokenizer),
        "compute_metrics": lambda found: scores.score(found.predictions, found.label_ids, asked),
    }


def pilot_of(a: Attempt, loaded: Loaded) -> pilot.Trial:
    """How a pilot of this task is trained and judged."""
    from jobs import trainer
    from jobs.arguments import regression_arguments

    asked, model = task_of(a), loaded.tuner.model

    def make(job: ResolvedSpec, folder: Any, rows: Any) -> Any:
        return trainer.RegressionTrainer(
            **what_trains(asked, model, loaded.tokenizer),
            args=regression_arguments(job, folder),
            train_dataset=rows,
            eval_dataset=rows,
        )

    def loss(tuner: Any, rows: Any) -> float:
        return predicted(tuner, rows, asked)[0]["loss"]

    def judged(count: int) -> dict[str, float]:
        some = loaded.validation.select(range(min(count, len(loaded.validation))))
        return predicted(loaded.tuner, some, asked)[0]

    def constant(rows: Any) -> float:
        wanted = np.array(rows["labels"])
        return trainer.loss_of(asked.loss, np.tile(wanted.mean(axis=0), (len(wanted), 1)), wanted)

    return pilot.Trial(loaded.tuner, loaded.train, loaded.validation, make, loss, judged, constant)


def task_of(a: Attempt) -> Regression:
    if a.job.regression is None:  # the spec refuses it; for the reader and the type checker
        raise BadInput("regression: the spec says nothing about what to score")
    return a.job.regression


def targets_of(lines: Sequence[Line], asked: Regression) -> scores.Array:
    """Scores of shape (rows, dimensions). Raises `BadInput` with the line that lacks one."""
    found = []
    for line in lines:
        if not isinstance(line.row, ScoresRow):
            raise BadInput(f"{line}: expected `text` and `scores`")
        try:
            found.append(scores_of(line.row, asked))
        except ValueError as error:
            raise BadInput(f"{line}: {error}") from None
    return np.array(found, dtype=np.float64)


def encoded(tokenizer: Any, lines: Sequence[Line], wanted: scores.Array, seq_len: int) -> Any:
    """A `datasets.Dataset` of token ids, cut to `seq_len`, and labels."""
    from datasets import Dataset

    texts = [line.row.text for line in lines if isinstance(line.row, ScoresRow)]
    ids = tokenizer(texts, truncation=True, max_length=seq_len)
    return Dataset.from_dict({**ids, "labels": wanted.tolist()})


def judge(a: Attempt, loaded: Loaded) -> None:
    """Errors on validation and test rows, beside the constant's; how it fits; the gates."""
    a.progress.enter("evaluate")
    asked, tuner = task_of(a), loaded.tuner
    validation, _ = predicted(tuner, loaded.validation, asked)
    a.progress.write(
        EvalRecord(
            at=now(),
            step=a.outcome.steps,
            loss=require_finite(validation["loss"], "the validation loss"),
            metrics={n: v for n, v in validation.items() if n != "loss"},
        )
    )
    tuned, answers = predicted(tuner, loaded.judged, asked)
    if loaded.rows.test:
        a.outcome.metrics["validation"] = validation
    mean = np.mean(loaded.train["labels"], axis=0)
    wanted = np.array(loaded.judged["labels"])
    constant = np.tile(mean, (len(wanted), 1))
    for subject, given, found in (
        ("constant", constant, scores.score(constant, wanted, asked)),
        ("tuned", answers, tuned),
    ):
        a.outcome.metrics[subject] = found
        near = scores.intervals(given, wanted, asked, a.job.seed)
        a.outcome.intervals[subject] = {n: i for n, i in near.items() if n in found}
    some = loaded.train.shuffle(seed=a.job.seed)
    some = some.select(range(min(TRAIN_ROWS_JUDGED, len(some))))
    known, _ = predicted(tuner, some, asked)
    a.outcome.fit = scores.fit(train=known["mae"], validation=validation["mae"])
    a.outcome.gates = judge_gates(a.job.gates, tuned, a.outcome.intervals["tuned"])
    if a.ranks.first:
        shown = samples(loaded.rows.judged, answers, asked)
        write_samples(a.folder / layout.SAMPLES, shown)
        write_review(a.folder / layout.REVIEW, shown, a.job.seed)
        write_gates(a.folder, a.outcome.gates)


def predicted(tuner: Any, rows: Any, asked: Regression) -> tuple[dict[str, float], scores.Array]:
    """Loss and metrics of the student on the rows, and its scores of shape (rows, dimensions)."""
    output = tuner.predict(rows, metric_key_prefix="eval")
    loss = float(output.metrics["eval_loss"])
    wanted = np.array(rows["labels"])  # the trainer's own are rounded to 32 bits
    return {"loss": loss} | scores.score(output.predictions, wanted, asked), output.predictions


def samples(lines: Sequence[Line], answers: scores.Array, asked: Regression) -> list[Sample]:
    """Each text with the oracle's and the student's scores, as JSON objects."""
    found = []
    for line, given in zip(lines, answers, strict=True):
        assert isinstance(line.row, ScoresRow), "targets_of has seen every line"
        wanted = dict(zip(asked.dimensions, scores_of(line.row, asked), strict=True))
        said = {d: round(float(v), 4) for d, v in zip(asked.dimensions, given, strict=True)}
        found.append(Sample(line.row.text, _json(wanted), base=None, tuned=_json(said)))
    return found


def _json(value: dict[str, float]) -> str:
    return msgspec.json.encode(value).decode()
