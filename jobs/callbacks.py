"""What happens between training steps: records, whole checkpoints, an orderly stop."""

import math
import time
from pathlib import Path
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from jobs import adapters, checkpoint, layout
from jobs.adapters import Adapter
from jobs.memory import peak_memory
from jobs.outcome import Outcome, require_finite
from jobs.progress import Progress, now
from jobs.ranks import Ranks
from jobs.spec import EvalRecord, StepRecord
from jobs.stop import Stop


class StepRecords(TrainerCallback):
    """Writes a StepRecord for every logged step; keeps steps and tokens for the result."""

    def __init__(self, progress: Progress, outcome: Outcome) -> None:
        self._progress = progress
        self._outcome = outcome
        self._seconds_before = progress.training_seconds()
        self._tokens_before = outcome.tokens = progress.training_tokens()
        self._tokens_seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._first_step = state.global_step
        self._began_at = self._logged_at = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        moment = time.monotonic()
        trained = moment - self._began_at
        tokens = int(logs.get("num_tokens", 0))
        done = state.global_step - self._first_step
        norm = logs.get("grad_norm")
        record = StepRecord(
            at=now(),
            step=state.global_step,
            steps_total=state.max_steps,
            epoch=float(state.epoch or 0.0),
            loss=require_finite(float(logs["loss"]), f"the loss at step {state.global_step}"),
            learning_rate=float(logs["learning_rate"]),
            # fp16's loss scaler skips steps whose gradient overflows: they have no norm
            grad_norm=float(norm) if norm is not None and math.isfinite(norm) else None,
            tokens=self._tokens_before + tokens,
            tokens_per_second=(tokens - self._tokens_seen) / max(moment - self._logged_at, 1e-9),
            memory_bytes=peak_memory()[0],
            seconds=self._seconds_before + trained,
            eta_seconds=trained / max(done, 1) * (state.max_steps - state.global_step),
        )
        self._progress.write(record)
        print(f"step {record.step}/{record.steps_total} loss {record.loss:.4f}", flush=True)
        self._logged_at, self._tokens_seen = moment, tokens
        self._outcome.steps, self._outcome.tokens = record.step, record.tokens
        self._outcome.tokens_per_second = tokens / max(trained, 1e-9)


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint when it is whole, and only then removes old ones."""

    def __init__(
        self, progress: Progress, folder: Path, every_steps: int, kept: int, ranks: Ranks
    ) -> None:
        self._progress = progress
        self._folder = folder
        self._every_steps = every_steps
        self._kept = kept
        self._ranks = ranks

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        # Saved after the epoch's evaluation, which a run that resumes there would lose.
        later = args.eval_strategy == "epoch" and epoch_ends(args, state, train_dataloader)
        if later or state.global_step % self._every_steps == 0:
            # The averages of a record must not reach across a checkpoint: a run that resumes there
            # has only the steps after it, and its curve would differ.
            control.should_log = True
            control.should_save = control.should_save or not later

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._ranks.wait()  # each writes its own random state
        if self._ranks.first:
            self._progress.touch()  # tens of GB are hashed
            checkpoint.mark_complete(
                self._folder / f"{layout.CHECKPOINT_PREFIX}{state.global_step}"
            )
            self._progress.touch()
            checkpoint.keep_newest(self._folder, self._kept, state.best_global_step)
        self._ranks.wait()


class Proven(TrainerCallback):
    """Before the first step: the model holds the very weights that it was to begin with."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        adapters.require(
            [*adapters.placed(model, self._adapter), *adapters.arrived(model, self._adapter)]
        )


class Epochs(TrainerCallback):
    """A record of every evaluation in training."""

    def __init__(self, progress: Progress, checkpoints: Path) -> None:
        self._progress = progress
        self._checkpoints = checkpoints
        self._training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._training = True
        if state.best_global_step:  # a checkpoint names the folder that it was written in
            best = self._checkpoints / f"{layout.CHECKPOINT_PREFIX}{state.best_global_step}"
            state.best_model_checkpoint = str(best)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not self._training or metrics is None:
            return
        found = {n.removeprefix("eval_"): v for n, v in metrics.items() if _is_quality(n)}
        loss = require_finite(found.pop("loss"), f"the validation loss at step {state.global_step}")
        epoch = float(state.epoch or 0.0)
        self._progress.write(
            EvalRecord(at=now(), step=state.global_step, loss=loss, epoch=epoch, metrics=found)
        )
        shown = " ".join(f"{n} {v:.4f}" for n, v in found.items() if "/" not in n)
        print(f"epoch {epoch:.2f} validation loss {loss:.4f} {shown}".rstrip(), flush=True)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._progress.touch()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._training = False


class Patience(EarlyStoppingCallback):
    """Early stopping that goes on counting where an earlier attempt ended."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **named: Any
    ) -> None:
        super().on_train_begin(args, state, control, **named)
        evaluated = [entry["step"] for entry in state.log_history if "eval_loss" in entry]
        best = state.best_global_step or min(evaluated, default=0)
        self.early_stopping_patience_counter = sum(step > best for step in evaluated)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


# What transformers and TRL measure of the evaluation itself.
_NOT_QUALITY = (
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "num_tokens",
    "entropy",
    "mean_token_accuracy",
    "model_preparation_time",
)


def _is_quality(name: str) -> bool:
    return name.startswith("eval_") and name.removeprefix("eval_") not in _NOT_QUALITY


def epoch_ends(args: TrainingArguments, state: TrainerState, batches: Any) -> bool:
    """Whether this step is an epoch's last, or the training's."""
    steps = math.ceil(len(batches) / args.gradient_accumulation_steps)  # as transformers has them
    return state.global_step % steps == 0 or state.global_step >= state.max_steps


class OrderlyStop(TrainerCallback):
    """When any rank is asked to stop: this step's record, a checkpoint, the end of training."""

    def __init__(self, stop: Stop, ranks: Ranks) -> None:
        self._stop = stop
        self._ranks = ranks

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._stop.look()
        mine = self._stop.stopped
        reason = self._ranks.gravest(None if mine is None else mine.reason)
        if reason is not None:
            self._stop.adopt(reason)
            control.should_log = control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        # transformers calls this after a stop in mid-epoch as well, and would evaluate there.
        if not epoch_ends(args, state, train_dataloader):
            control.should_evaluate = control.should_save = False


class StepTimes(TrainerCallback):
    """How long each step of a pilot took; ends it when its loss is no number."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.finite = True

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.seconds.append(time.monotonic() - self._began_at)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not math.isfinite(float((logs or {}).get("loss", 0.0))):
            self.finite = False
            control.should_training_stop = True
