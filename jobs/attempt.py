"""One start of the job, and the stages that every task goes through."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import adapters, layout
from jobs.continuing import begin_from_parent, require_parent, settle_lineage
from jobs.download import from_hub
from jobs.lineage import bind
from jobs.memory import lean_heap
from jobs.outcome import BadInput, Outcome
from jobs.progress import Progress
from jobs.ranks import Ranks
from jobs.sharding import adapter_weights, require_shardable, sharded, wrap_adapter
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
    ranks: Ranks


def require_model(a: Attempt) -> Path | None:
    """The base model's folder, None for a Hub id. Costs nothing: before anything is imported."""
    require_parent(a)
    require_shardable(a.job)
    local = model_folder(a.job.model.id, a.folder)
    if local is None and a.job.model.init == "random":
        raise BadInput(f"model.id: init: random needs a folder, {a.job.model.id} is none")
    return local


def load_base(a: Attempt, local: Path | None) -> tuple[Any, Any]:
    """The base model on its device, and its tokenizer."""
    from jobs import strategies
    from jobs.tokenizer import load_tokenizer

    job = a.job
    if job.train.lean_heap and job.device == "cpu" and not lean_heap():
        a.outcome.warnings.append("train.lean_heap: this system's allocator does not offer it")
    a.ranks.join(job.device)
    a.ranks.require_same(a.outcome.resumed_from_step, "a checkpoint of step")
    base = local or from_hub(job.model.id, job.model.revision, "model.id")
    if job.model.init == "random":
        with a.ranks.one_after_first():
            base = strategies.build_base(base, a.folder / layout.BASE, job.seed)
    tokenizer = load_tokenizer(str(base), None)
    settle_lineage(a, base, tokenizer)
    model = strategies.load_model(job, str(base), None, tokenizer, a.ranks.local_rank)
    a.outcome.parameters_total = strategies.count_parameters(model)
    strategies.limit_threads(job, a.outcome.parameters_total)
    warning = strategies.name_warning(job.model.id, a.outcome.parameters_total)
    a.outcome.warnings += [warning] if warning else []
    return model, tokenizer


def start_from(a: Attempt, tuner: Any) -> None:
    """Training begins with the weights it was told to: the parent's, or its own checkpoint's.

    Each is proven again when training begins, after all that libraries do on the way there.
    """
    from jobs.callbacks import Proven

    adapter = begin_from_parent(a, tuner.model)
    if sharded(a.job):  # then no rank holds a whole parameter to look at
        wrap_adapter(a.job, tuner)
        return
    if adapter is None and a.resume is not None and a.job.strategy != "full":
        adapter = adapters.open_adapter(a.resume)
    if adapter is not None:
        tuner.add_callback(Proven(adapter))


def callbacks_of(a: Attempt) -> list[Any]:
    from jobs.callbacks import Epochs, OrderlyStop, Patience, StepRecords, WholeCheckpoints

    checkpoints, settings = a.folder / layout.CHECKPOINTS, a.job.train
    found = [
        StepRecords(a.progress, a.outcome),
        OrderlyStop(a.stop, a.ranks),
        WholeCheckpoints(
            a.progress,
            checkpoints,
            settings.checkpoint_every_steps,
            settings.checkpoints_kept,
            a.ranks,
        ),
        Epochs(a.progress, checkpoints),
    ]
    if settings.patience is not None:
        found.append(Patience(early_stopping_patience=settings.patience))
    if a.job.track is not None and a.ranks.first:
        from jobs import tracking

        tracking.set_environment(a.job, a.folder)
        tracker = tracking.Tracking(a.job.track, a.folder)
        a.outcome.tracked = tracker.ended
        found.append(tracker)
    return found


def train(a: Attempt, tuner: Any) -> None:
    """Train to the end, or to the best epoch where the spec names what is best."""
    from transformers import set_seed

    a.progress.enter("train")
    # Whatever was drawn before (an evaluation that a restart skips), training starts alike.
    set_seed(a.job.seed)
    tuner.unprepared()
    with a.stop.finishing_steps():
        tuner.train(resume_from_checkpoint=str(a.resume) if a.resume else None)
    a.outcome.steps = tuner.state.global_step
    if a.job.train.select_by is not None:
        a.outcome.best_step = best = tuner.state.best_global_step
        if best is not None and a.job.strategy != "full":
            kept = a.folder / layout.CHECKPOINTS / f"{layout.CHECKPOINT_PREFIX}{best}"
            adapters.require(adapters.arrived(tuner.model, adapters.open_adapter(kept)))


def save(a: Attempt, tuner: Any, tokenizer: Any) -> None:
    """Adapter or model with its tokenizer, safetensors only, written aside and then moved.

    By rank 0, which holds all of it; the others go on.
    """
    a.progress.enter("save")
    weights = adapter_weights(a.job, tuner)
    if not a.ranks.first:
        return
    name = layout.MODEL if a.job.strategy == "full" else layout.ADAPTER
    target, aside = a.folder / name, a.folder / (name + layout.TEMPORARY_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    tuner.model.save_pretrained(aside, **({} if weights is None else {"state_dict": weights}))
    tokenizer.save_pretrained(aside)
    if name == layout.ADAPTER and weights is None:
        a.outcome.warnings += _proven(tuner.model, aside)
    bind(a.folder, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.replace(target)
    a.outcome.adapter = name


def _proven(model: Any, folder: Path) -> list[str]:
    """What was saved is read back and compared; a lora_B that never moved is worth a warning."""
    adapter = adapters.open_adapter(folder)
    adapters.require([*adapters.placed(model, adapter), *adapters.arrived(model, adapter)])
    trained = adapters.trained(adapter)
    return [] if trained.ok else [f"the adapter's {trained.said}"]


def trained_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
