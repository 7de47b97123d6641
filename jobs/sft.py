"""Supervised fine-tuning: load → base's answers → train → save → tuned answers, and the gates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobs import layout, metrics
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
from jobs.data import Line, read_data
from jobs.encode import Encoder, Question, answers_of, dataset
from jobs.outcome import BadInput, require_finite
from jobs.progress import now
from jobs.replay import with_replay
from jobs.samples import Sample, write_samples
from jobs.sources import set_environment
from jobs.spec import EvalRecord, Evaluation, ResolvedSpec
from jobs.versions import versions


@dataclass(frozen=True)
class Loaded:
    """The model with its rows, ready to be trained."""

    tuner: Any  # jobs.trainer.SftTrainer
    tokenizer: Any
    judged: Any  # the rows that the result is taken on, encoded
    questions: list[Question]  # of the same rows
    training_answers: list[str]

    @property
    def references(self) -> list[str]:
        return [question.reference for question in self.questions]


def run(a: Attempt) -> None:
    loaded = load(a)
    base = evaluate_base(a, loaded) if a.job.eval.compare_base else None
    train(a, loaded.tuner)
    save(a, loaded.tuner, loaded.tokenizer)
    evaluate_tuned(a, loaded, base)


def load(a: Attempt) -> Loaded:
    """Phases load and data. What costs nothing to check comes before what takes minutes."""
    job = a.job
    local = require_model(a)
    require_metric(job.train.select_by)
    rows = with_replay(job, read_data(job, a.folder), a.folder)
    set_environment(job, model_is_local=local is not None)
    from jobs import strategies, trainer
    from jobs.arguments import sft_arguments

    trainer.quiet()
    a.outcome.versions = versions()
    model, tokenizer = load_base(a, local)

    a.progress.enter("data")
    a.outcome.evaluated_on = "test" if rows.test else "validation"
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    validation = dataset(encoder, rows.validation)
    judged = dataset(encoder, rows.test) if rows.test else validation
    asked = questions(encoder, rows.judged, job.eval)
    tuner = trainer.SftTrainer(
        model=model,
        args=sft_arguments(job, a.folder),
        train_dataset=dataset(encoder, rows.train),
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=strategies.adapter(job),
        callbacks=callbacks_of(a),
    )
    if job.train.select_by not in (None, "loss"):
        choosing = asked if not rows.test else questions(encoder, rows.validation, job.eval)
        tuner.measure = partial(chosen_metric, job, tuner.model, tokenizer, choosing)
    strategies.widen_adapter(job, tuner.model)
    start_from(a, tuner)
    a.outcome.parameters_trainable = trained_parameters(tuner.model)
    return Loaded(
        tuner=tuner,
        tokenizer=tokenizer,
        judged=judged,
        questions=asked,
        training_answers=answers_of(rows.train),
    )


def require_metric(name: str | None) -> None:
    """Raises `BadInput` for a metric that no evaluation would give."""
    known = ("loss", *metrics.NAMES)
    if name is not None and name not in known:
        raise BadInput(f"train.select_by: {name}: not one of {', '.join(known)}")


def questions(encoder: Encoder, lines: Sequence[Line], settings: Evaluation) -> list[Question]:
    """What to ask of the rows, `settings.limit` of them at most."""
    if not settings.generate:
        return []
    asked = [q for line in lines if (q := encoder.question(line)) is not None]
    return asked[: settings.limit]


def chosen_metric(
    job: ResolvedSpec, model: Any, tokenizer: Any, choosing: list[Question]
) -> dict[str, float]:
    """The metric that the best epoch is chosen by, from answers to the validation rows.

    A share of nothing (the precision of a model that never refuses) counts as the worst.
    """
    from jobs import evaluate

    name = job.train.select_by or ""
    answers = dict(evaluate.generate(model, tokenizer, choosing, job.eval))
    found = scored([answers[i] for i in range(len(choosing))], [q.reference for q in choosing])
    return {name: found.get(name, 0.0)}


def evaluate_base(a: Attempt, loaded: Loaded) -> list[str]:
    """The untouched model's answers; what an earlier attempt found is not computed again."""
    from jobs import evaluate

    a.progress.enter("evaluate_base")
    model = loaded.tuner.model
    loss = a.ranks.from_first(a.progress.base_loss())
    if loss is None:
        with evaluate.untouched(model):
            loss = judged_loss(loaded)
        a.progress.write(EvalRecord(at=now(), step=0, loss=loss))
    if not a.ranks.first:  # rank 0 alone generates
        a.ranks.wait()
        return []
    answers = evaluate.base_answers(
        a.folder / layout.BASE_ANSWERS, model, loaded.tokenizer, loaded.questions, a.job.eval
    )
    a.outcome.metrics["base"] = {"loss": loss} | scored(answers, loaded.references)
    a.ranks.wait()
    return answers


def evaluate_tuned(a: Attempt, loaded: Loaded, base: list[str] | None) -> None:
    """The tuned model's loss and answers, beside the best constant answer, and the gates."""
    from jobs import evaluate

    a.progress.enter("evaluate")
    loss = judged_loss(loaded)
    a.progress.write(EvalRecord(at=now(), step=a.outcome.steps, loss=loss))
    if not a.ranks.first:  # rank 0 alone generates, and judges
        return
    answers = dict(
        evaluate.generate(loaded.tuner.model, loaded.tokenizer, loaded.questions, a.job.eval)
    )
    tuned = [answers[i] for i in range(len(loaded.questions))]
    samples = [
        Sample(q.text, q.reference, base[i] if base is not None else None, tuned[i])
        for i, q in enumerate(loaded.questions)
    ]
    write_samples(a.folder / layout.SAMPLES, samples)
    found = {"loss": loss} | scored(tuned, loaded.references)
    a.outcome.metrics["tuned"] = found
    if loaded.references:
        constant = metrics.best_constant(loaded.training_answers, loaded.references)
        a.outcome.metrics["constant"] = constant
    a.outcome.gates = metrics.judge(a.job.gates, found)


def judged_loss(loaded: Loaded) -> float:
    """The mean loss on the judged rows. Raises `Diverged` when it is no number."""
    found = loaded.tuner.evaluate(eval_dataset=loaded.judged)
    return require_finite(found["eval_loss"], "the validation loss")


def scored(answers: list[str], references: list[str]) -> dict[str, float]:
    return metrics.score(answers, references) if references else {}
