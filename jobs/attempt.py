"""One start of the job, and the stages that every task goes through."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import layout
from jobs.memory import lean_heap
from jobs.outcome import BadInput, Outcome
from jobs.progress import Progress
from jobs.sources import model_folder
from jobs.spec import ResolvedSpec
from jobs.stop import Stop


@dataclass(frozen=True)
class Attempt:
    """What the job works on and whom it tells."""

    job: ResolvedSpec
    folder: Path
    resume: Path | None  # a whole checkpoint
    progress: Progress
    outcome: Outcome
    stop: Stop


def require_model(a: Attempt) -> Path | None:
    """The base model's folder, None for a Hub id. Costs nothing: before anything is imported."""
    local = model_folder(a.job.model.id, a.folder)
    if local is None and a.job.model.init == "random":
        raise BadInput(f"model.id: init: random needs a folder, {a.job.model.id} is none")
    return local


def load_base(a: Attempt, local: Path | None) -> tuple[Any, Any]:
    """The base model on its device, and its tokenizer."""
    from jobs import strategies

    job = a.job
    if job.train.lean_heap and job.device == "cpu" and not lean_heap():
        a.outcome.warnings.append("train.lean_heap: this system's allocator does not offer it")
    source, revision = str(local or job.model.id), None if local else job.model.revision
    if job.model.init == "random":
        source = str(strategies.build_base(Path(source), a.folder / layout.BASE, job.seed))
    tokenizer = strategies.load_tokenizer(source, revision)
    model = strategies.load_model(job, source, revision, tokenizer)
    a.outcome.parameters_total = strategies.count_parameters(model)
    strategies.limit_threads(job, a.outcome.parameters_total)
    warning = strategies.name_warning(job.model.id, a.outcome.parameters_total)
    a.outcome.warnings += [warning] if warning else []
    return model, tokenizer


def callbacks_of(a: Attempt) -> list[Any]:
    from transformers import EarlyStoppingCallback

    from jobs.callbacks import Epochs, OrderlyStop, StepRecords, WholeCheckpoints

    checkpoints, settings = a.folder / layout.CHECKPOINTS, a.job.train
    found = [
        StepRecords(a.progress, a.outcome),
        OrderlyStop(a.stop),
        WholeCheckpoints(checkpoints, settings.checkpoint_every_steps, settings.checkpoints_kept),
        Epochs(a.progress, checkpoints),
    ]
    if settings.patience is not None:
        found.append(EarlyStoppingCallback(early_stopping_patience=settings.patience))
    return found


def train(a: Attempt, tuner: Any) -> None:
    """Train to the end, or to the best epoch where the spec names what is best."""
    from transformers import set_seed

    a.progress.enter("train")
    # Whatever was drawn before (an evaluation that a restart skips), training starts alike.
    set_seed(a.job.seed)
    with a.stop.finishing_steps():
        tuner.train(resume_from_checkpoint=str(a.resume) if a.resume else None)
    a.outcome.steps = tuner.state.global_step
    if a.job.train.select_by is not None:
        a.outcome.best_step = tuner.state.best_global_step


def save(a: Attempt, model: Any, tokenizer: Any) -> None:
    """Adapter or model with its tokenizer, safetensors only, written aside and then moved."""
    a.progress.enter("save")
    name = layout.MODEL if a.job.strategy == "full" else layout.ADAPTER
    target, aside = a.folder / name, a.folder / (name + layout.TEMPORARY_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.replace(target)
    a.outcome.adapter = name


def trained_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
