"""Supervised fine-tuning: load → base's answers → train → save → tuned answers, and the gates."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobs import layout, longest, losses, metrics, pilot
from jobs.answers import Rules, rules_of
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
from jobs.encode import Encoder, Question, answers_of, dataset, doubts_of
from jobs.gates import judge, write_gates
from jobs.golden import GoldenRow, read_golden
from jobs.golden import questions_of as golden_questions
from jobs.own_metrics import Measured
from jobs.progress import now
from jobs.replay import with_replay
from jobs.samples import Sample, write_review, write_samples
from jobs.sources import data_file, set_environment
from jobs.spec import EvalRecord, ResolvedEvaluation, ResolvedSpec
from jobs.spec.splits import identity
from jobs.versions import versions


@dataclass(frozen=True)
class Loaded:
    """The model with its rows, ready to be trained."""

    tuner: Any  # jobs.trainer.SftTrainer
    tokenizer: Any
    train: Any  # the training rows, encoded, before packing
    validation: Any
    judged: Any  # the rows that the result's loss is taken on
    questions: list[Question]  # that the result's answers are given to
    choosing: list[Question]  # of the validation rows: for the best epoch, and the pilot
    rules: Rules
    training_answers: list[str]


def run(a: Attempt) -> None:
    loaded = load(a)
    trial = pilot_of(a, loaded)
    longest.run(a, trial, answer_longest(a, loaded))
    base = evaluate_base(a, loaded) if a.job.eval.compare_base else None
    if a.job.pilot is not None:
        pilot.run(a, trial)
    train(a, loaded.tuner)
    save(a, loaded.tuner, loaded.tokenizer)
    evaluate_tuned(a, loaded, base)


def load(a: Attempt) -> Loaded:
    """Phases load and data. What costs nothing to check comes before what takes minutes."""
    job = a.job
    local = require_model(a)
    rows = with_replay(job, read_data(job, a.folder), a.folder)
    rows.say()
    a.outcome.warnings += rows.warnings
    golden = golden_rows(a)
    asked_lines = [row.line for row in golden] if golden else rows.judged
    a.outcome.warnings += seen_before(golden, rows.train)
    training_answers = answers_of(rows.train)
    rules, warned = rules_of(job, a.folder, asked_lines, training_answers)
    a.outcome.warnings += warned
    set_environment(job, model_is_local=local is not None)
    from jobs import strategies, trainer
    from jobs.arguments import sft_arguments

    trainer.quiet()
    a.outcome.versions = versions()
    model, tokenizer = load_base(a, local)

    a.progress.enter("data")
    a.outcome.evaluated_on = "test" if rows.test else "validation"
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    encoded, validation = dataset(encoder, rows.train), dataset(encoder, rows.validation)
    asked, choosing = questions_of(encoder, rows, golden, job.eval)
    a.outcome.warnings += doubts_of(asked)
    if asked:
        a.outcome.answered_on = "golden" if golden else a.outcome.evaluated_on
    tuner = trainer.SftTrainer(
        model=model,
        args=sft_arguments(job, a.folder),
        train_dataset=encoded,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=strategies.adapter(job, model),
        callbacks=callbacks_of(a),
    )
    if job.train.select_by not in (None, "loss"):
        tuner.measure = partial(chosen_metric, a, tuner.model, tokenizer, choosing, rules)
    strategies.widen_adapter(job, tuner.model)
    start_from(a, tuner)
    a.outcome.parameters_trainable = trained_parameters(tuner.model)
    judged = dataset(encoder, rows.test) if rows.test else validation
    return Loaded(
        tuner, tokenizer, encoded, validation, judged, asked, choosing, rules, training_answers
    )


def golden_rows(a: Attempt) -> list[GoldenRow]:
    """The rows of `eval.golden`, none where the spec names no file."""
    if a.job.eval.golden is None:
        return []
    return read_golden(data_file(a.job.eval.golden, "eval.golden", a.folder, a.job.golden_sha256))


def seen_before(golden: Sequence[GoldenRow], trained: Sequence[Line]) -> list[str]:
    """A warning where training rows ask what the golden set asks: its answers are flattered."""
    asked = {identity(row.line.row).question for row in golden}
    count = sum(identity(line.row).question in asked for line in trained)
    return [f"{count} training rows ask what eval.golden asks"] if count else []


def questions_of(
    encoder: Encoder, rows: Rows, golden: list[GoldenRow], settings: ResolvedEvaluation
) -> tuple[list[Question], list[Question]]:
    """What the result's answers are given to, and what an epoch is chosen by.

    The golden set and the test rows are looked at once, at the end: nothing is chosen by them.
    """
    choosing = questions(encoder, rows.validation, settings)
    if not golden:
        return (questions(encoder, rows.test, settings) if rows.test else choosing), choosing
    asked = golden_questions(encoder, golden) if settings.generate else []
    return asked[: settings.limit], choosing


def questions(
    encoder: Encoder, lines: Sequence[Line], settings: ResolvedEvaluation
) -> list[Question]:
    """What to ask of the rows, `settings.limit` of them at most."""
    if not settings.generate:
        return []
    asked = [q for line in lines if (q := encoder.question(line)) is not None]
    return asked[: settings.limit]


def chosen_metric(
    a: Attempt, model: Any, tokenizer: Any, choosing: list[Question], rules: Rules
) -> dict[str, float]:
    """The metric that the best epoch is chosen by, from answers to the validation rows.

    A share of nothing (the precision of a model that never refuses) counts as the worst.
    """
    from jobs import evaluate

    name = a.job.train.select_by or ""
    # in the phase of training, where the watchdog waits for steps
    answers = evaluate.answers(model, tokenizer, choosing, a.job.eval, a.progress.touch)
    found = rules.measure(choosing, answers).values
    return {name: found.get(name, metrics.worst(name, a.job.gates))}


def evaluate_base(a: Attempt, loaded: Loaded) -> list[str]:
    """The untouched model's answers; what an earlier attempt found is not computed again."""
    from jobs import evaluate

    a.progress.enter("evaluate_base")
    model = loaded.tuner.model
    by_row = a.ranks.from_first(losses.known(a.folder / layout.BASE_LOSSES, len(loaded.judged)))
    if by_row is None:
        with evaluate.untouched(model):
            by_row = losses.by_row(loaded.tuner, loaded.judged)
    found = losses.measured(by_row, a.job.seed)
    if not a.ranks.first:  # rank 0 alone writes and generates
        a.ranks.wait()
        return []
    losses.keep(a.folder / layout.BASE_LOSSES, by_row)
    if a.progress.base_loss() is None:
        a.progress.write(EvalRecord(at=now(), step=0, loss=found.values["loss"]))
    answers = evaluate.base_answers(
        a.folder / layout.BASE_ANSWERS, model, loaded.tokenizer, loaded.questions, a.job.eval
    )
    tell(a, "base", found.plus(loaded.rules.measure(loaded.questions, answers)))
    a.ranks.wait()
    return answers


def evaluate_tuned(a: Attempt, loaded: Loaded, base: list[str] | None) -> None:
    """The tuned model's loss and answers, beside the best constant answer, and the gates."""
    from jobs import evaluate

    a.progress.enter("evaluate")
    found = losses.measured(losses.by_row(loaded.tuner, loaded.judged), a.job.seed)
    a.progress.write(EvalRecord(at=now(), step=a.outcome.steps, loss=found.values["loss"]))
    if not a.ranks.first:  # rank 0 alone generates, and judges
        return
    asked = loaded.questions
    tuned = evaluate.answers(loaded.tuner.model, loaded.tokenizer, asked, a.job.eval)
    samples = [
        Sample(q.text, q.reference, base[i] if base is not None else None, tuned[i])
        for i, q in enumerate(asked)
    ]
    write_samples(a.folder / layout.SAMPLES, samples)
    write_review(a.folder / layout.REVIEW, samples, a.job.seed)
    found = found.plus(loaded.rules.measure(asked, tuned))
    tell(a, "tuned", found)
    if asked:
        references = [question.reference for question in asked]
        constant = metrics.best_constant(loaded.training_answers, references)
        a.outcome.metrics["constant"] = constant
    a.outcome.gates = judge(a.job.gates, found.values, found.intervals)
    write_gates(a.folder, a.outcome.gates)


def tell(a: Attempt, subject: str, found: Measured) -> None:
    """A subject's metrics into the result; what could not be measured becomes a warning."""
    a.outcome.metrics[subject] = found.values
    a.outcome.intervals[subject] = found.intervals
    a.outcome.warnings += [f"{problem} (on the {subject} model's answers)"
                           for problem in found.problems]  # fmt: skip


def answer_longest(a: Attempt, loaded: Loaded) -> Callable[[], object] | None:
    """One batch of answers to the longest questions, where none are asked before the training."""
    from jobs import evaluate

    if a.job.eval.compare_base or not loaded.questions:
        return None

    def answer() -> None:
        model, tokenizer = loaded.tuner.model, loaded.tokenizer
        generated = evaluate.generate(model, tokenizer, loaded.questions, a.job.eval)
        with contextlib.closing(generated):
            next(generated)

    return answer


def pilot_of(a: Attempt, loaded: Loaded) -> pilot.Trial:
    """How a pilot of this task is trained and judged."""
    from jobs import evaluate, trainer
    from jobs.arguments import sft_arguments

    def make(job: ResolvedSpec, folder: Any, rows: Any) -> Any:
        return trainer.SftTrainer(
            model=loaded.tuner.model,
            args=sft_arguments(job, folder),
            train_dataset=rows,
            eval_dataset=rows,
            processing_class=loaded.tokenizer,
        )

    def loss(tuner: Any, rows: Any) -> float:
        return losses.mean(losses.by_row(tuner, rows))

    def judged(count: int) -> dict[str, float]:
        asked = loaded.choosing[:count]
        answers = evaluate.answers(loaded.tuner.model, loaded.tokenizer, asked, a.job.eval)
        return loaded.rules.measure(asked, answers).values

    return pilot.Trial(loaded.tuner, loaded.train, loaded.validation, make, loss, judged)
