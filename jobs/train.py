"""`python -m jobs.train spec.json`: load, train, evaluate, and always leave result.json.

The folder of spec.json is the run's folder; every file of jobs.layout is written there. Exit
codes: 0 done (gates judged in the result), 1 failed, 2 bad input. A second start in the same
folder continues from the last whole checkpoint, and does nothing when the job is done.
"""

import fcntl
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import msgspec

from jobs import checkpoint, layout, metrics
from jobs.data import Encoder, Question, answers_of, dataset, read_data
from jobs.memory import peak_memory
from jobs.outcome import BadInput, Outcome, Stopped, failure_of, require_finite, write_aside
from jobs.progress import Progress, now
from jobs.sources import model_folder, set_environment
from jobs.spec import WIRE_VERSION, EvalRecord, Failure, ResolvedSpec, Result, encode
from jobs.stop import Stop

VERSIONS_OF = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.train spec.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    folder = spec_file.parent
    lock = hold(folder)
    if lock is None:
        print(f"another job works in {folder}", file=sys.stderr)
        return 2
    with lock:
        write_aside(folder / layout.PID, f"{os.getpid()}\n".encode())
        return attempt(spec_file, folder)


def hold(folder: Path) -> IO[str] | None:
    """The run's lock, kept by the open file; None when another job has it.

    A launcher takes it before this process exists and hands the open file over.
    """
    handed_over = os.environ.pop(layout.LOCK_VARIABLE, None)
    if handed_over is not None:
        return os.fdopen(int(handed_over), "a")
    file = (folder / layout.LOCK).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def attempt(spec_file: Path, folder: Path) -> int:
    """One attempt at the job, from its spec to its result."""
    outcome = Outcome()
    progress: Progress | None = None

    def give_up(stopped: Stopped) -> None:
        leave(folder, outcome, progress, failure_of(stopped))
        os._exit(1)

    stop = Stop(give_up)
    stop.listen()  # before all else: whatever comes from here on leaves a result
    failure: Failure | None = None
    try:
        if finished(folder):
            print("this job is done already", flush=True)
            return 0
        (folder / layout.RESULT).unlink(missing_ok=True)
        resume = checkpoint.last_complete(folder / layout.CHECKPOINTS)
        outcome.resumed_from_step = checkpoint.step_of(resume) if resume is not None else 0
        progress = Progress(folder / layout.METRICS, keep_to_step=outcome.resumed_from_step)
        progress.enter("load")
        job = read_spec(spec_file)
        outcome.run_id = job.run_id
        stop.until(job.deadline)
        run(Attempt(job, folder, resume, progress, outcome, stop))
        stop.end()
        progress.enter("done")
    except BaseException as error:
        stop.end()
        failure = failure_of(error)
        print(f"{failure.reason}: {failure.message}\n{failure.traceback}", flush=True)
    leave(folder, outcome, progress, failure)
    if progress is not None:
        progress.close()
    if failure is None:
        return 0
    return 2 if failure.reason == "BAD_INPUT" else 1


def finished(folder: Path) -> bool:
    try:
        found = msgspec.json.decode((folder / layout.RESULT).read_bytes(), type=Result)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return found.failure is None


def read_spec(path: Path) -> ResolvedSpec:
    try:
        job = msgspec.json.decode(path.read_bytes(), type=ResolvedSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    if job.wire_version != WIRE_VERSION:
        raise BadInput(f"{path}: wire_version {job.wire_version}, this job reads {WIRE_VERSION}")
    return job


@dataclass(frozen=True)
class Attempt:
    """One start of the job: what it works on and whom it tells."""

    job: ResolvedSpec
    folder: Path
    resume: Path | None  # a whole checkpoint
    progress: Progress
    outcome: Outcome
    stop: Stop


@dataclass(frozen=True)
class Loaded:
    """The model with its rows, ready to be trained."""

    tuner: Any  # jobs.trainer.Trainer
    tokenizer: Any
    questions: list[Question]
    training_answers: list[str]

    @property
    def references(self) -> list[str]:
        return [question.reference for question in self.questions]


def run(a: Attempt) -> None:
    loaded = load(a)
    base = evaluate_base(a, loaded) if a.job.eval.compare_base else None
    train(a, loaded)
    save(a, loaded)
    evaluate_tuned(a, loaded, base)


def load(a: Attempt) -> Loaded:
    """Phases load and data. What costs nothing to check comes before what takes minutes."""
    job = a.job
    local = model_folder(job.model.id, a.folder)
    if local is None and job.model.init == "random":
        raise BadInput(f"model.id: init: random needs a folder, {job.model.id} is none")
    train_lines, validation_lines = read_data(job, a.folder)
    set_environment(job, model_is_local=local is not None)
    from jobs import strategies, trainer

    trainer.quiet()
    a.outcome.versions = versions()
    source, revision = str(local or job.model.id), None if local else job.model.revision
    if job.model.init == "random":
        source = str(strategies.build_base(Path(source), a.folder / layout.BASE, job.seed))
    tokenizer = strategies.load_tokenizer(source, revision)
    model = strategies.load_model(job, source, revision)
    a.outcome.parameters_total = strategies.count_parameters(model)
    strategies.limit_threads(job, a.outcome.parameters_total)
    warning = strategies.name_warning(job.model.id, a.outcome.parameters_total)
    a.outcome.warnings += [warning] if warning else []

    a.progress.enter("data")
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    train_set, validation_set = dataset(encoder, train_lines), dataset(encoder, validation_lines)
    asked = [q for line in validation_lines if (q := encoder.question(line)) is not None]
    tuner = trainer.Trainer(
        model=model,
        args=strategies.training_arguments(job, a.folder),
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=tokenizer,
        peft_config=strategies.adapter(job),
        callbacks=callbacks_of(a),
    )
    strategies.widen_adapter(job, tuner.model)
    trained = (p.numel() for p in tuner.model.parameters() if p.requires_grad)
    a.outcome.parameters_trainable = sum(trained)
    return Loaded(
        tuner=tuner,
        tokenizer=tokenizer,
        questions=asked[: job.eval.limit] if job.eval.generate else [],
        training_answers=answers_of(train_lines),
    )


def callbacks_of(a: Attempt) -> list[Any]:
    from jobs.callbacks import OrderlyStop, StepRecords, WholeCheckpoints

    checkpoints, settings = a.folder / layout.CHECKPOINTS, a.job.train
    return [
        StepRecords(a.progress, a.outcome),
        OrderlyStop(a.stop),
        WholeCheckpoints(checkpoints, settings.checkpoint_every_steps, settings.checkpoints_kept),
    ]


def evaluate_base(a: Attempt, loaded: Loaded) -> list[str]:
    """The untouched model's answers; what an earlier attempt found is not computed again."""
    from jobs import evaluate

    a.progress.enter("evaluate_base")
    model = loaded.tuner.model
    loss = a.progress.base_loss()
    if loss is None:
        with evaluate.untouched(model):
            loss = validation_loss(loaded)
        a.progress.write(EvalRecord(at=now(), step=0, loss=loss))
    answers = evaluate.base_answers(
        a.folder / layout.BASE_ANSWERS, model, loaded.tokenizer, loaded.questions, a.job.eval
    )
    a.outcome.metrics["base"] = {"loss": loss} | scored(answers, loaded.references)
    return answers


def train(a: Attempt, loaded: Loaded) -> None:
    from transformers import set_seed

    a.progress.enter("train")
    # Whatever was drawn before (an evaluation that a restart skips), training starts alike.
    set_seed(a.job.seed)
    with a.stop.finishing_steps():
        loaded.tuner.train(resume_from_checkpoint=str(a.resume) if a.resume else None)
    a.outcome.steps = loaded.tuner.state.global_step


def save(a: Attempt, loaded: Loaded) -> None:
    """Adapter or model with its tokenizer, safetensors only, written aside and then moved."""
    a.progress.enter("save")
    name = layout.MODEL if a.job.strategy == "full" else layout.ADAPTER
    target, aside = a.folder / name, a.folder / (name + layout.TEMPORARY_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    loaded.tuner.model.save_pretrained(aside)
    loaded.tokenizer.save_pretrained(aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.replace(target)
    a.outcome.adapter = name


def evaluate_tuned(a: Attempt, loaded: Loaded, base: list[str] | None) -> None:
    """The tuned model's loss and answers, beside the best constant answer, and the gates."""
    from jobs import evaluate

    a.progress.enter("evaluate")
    loss = validation_loss(loaded)
    a.progress.write(EvalRecord(at=now(), step=a.outcome.steps, loss=loss))
    answers = dict(
        evaluate.generate(loaded.tuner.model, loaded.tokenizer, loaded.questions, a.job.eval)
    )
    tuned = [answers[i] for i in range(len(loaded.questions))]
    evaluate.write_samples(a.folder / layout.SAMPLES, loaded.questions, base, tuned)
    found = {"loss": loss} | scored(tuned, loaded.references)
    a.outcome.metrics["tuned"] = found
    if loaded.references:
        constant = metrics.best_constant(loaded.training_answers, loaded.references)
        a.outcome.metrics["constant"] = constant
    a.outcome.gates = metrics.judge(a.job.gates, found)


def validation_loss(loaded: Loaded) -> float:
    """The mean loss on the validation rows. Raises `Diverged` when it is no number."""
    return require_finite(loaded.tuner.evaluate()["eval_loss"], "the validation loss")


def scored(answers: list[str], references: list[str]) -> dict[str, float]:
    return metrics.score(answers, references) if references else {}


def leave(
    folder: Path, outcome: Outcome, progress: Progress | None, failure: Failure | None
) -> None:
    """Write result.json."""
    outcome.peak_memory_bytes, outcome.memory_metric = peak_memory()
    outcome.seconds_by_phase = progress.seconds() if progress is not None else {}
    write_aside(folder / layout.RESULT, encode(outcome.result(failure)))


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
