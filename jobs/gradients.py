"""The gradient of each optimizer step: watched for what no more training mends."""

import math
import statistics
from collections import deque
from typing import Any

from transformers import Trainer

from jobs.outcome import Diverged
from jobs.ranks import ranks

# All four are assumptions. Norms of one run vary by one order of magnitude (0.3 to 16 in the
# sample's first 24 steps at a learning rate of 4e-3), a broken one grows by many, step by step.
STEPS_IN_A_ROW = 5
TIMES_THE_MEDIAN = 100.0
MEDIAN_OF_STEPS = 50
MEDIAN_FROM_STEPS = 10  # before that there is nothing to compare with

# Ranks that share their gradients see one norm, to the order of a sum.
SAME_NORM = 1e-3


class GradientWatch:
    """Ends training when the gradient, before clipping, explodes and stays so.

    fp16's loss scaler makes single gradients infinite and skips them: there only finite norms are
    judged.
    """

    def __init__(self, loss_scaled: bool) -> None:
        self._loss_scaled = loss_scaled
        self._norms: deque[float] = deque(maxlen=MEDIAN_OF_STEPS)
        self._infinite = self._large = 0

    def see(self, norm: float) -> None:
        """Raises `Diverged` with the reason."""
        if not math.isfinite(norm):
            self._infinite += not self._loss_scaled
            if self._infinite >= STEPS_IN_A_ROW:
                raise Diverged(
                    f"the gradient's norm was {norm} in {self._infinite} steps on end: "
                    "lower train.learning_rate"
                )
            return
        self._infinite = 0
        median = statistics.median(self._norms) if self._norms else 0.0
        known = len(self._norms) >= MEDIAN_FROM_STEPS and median > 0
        if not known or norm <= TIMES_THE_MEDIAN * median:
            self._large = 0
            self._norms.append(norm)
            return
        self._large += 1  # and no part of the median
        if self._large >= STEPS_IN_A_ROW:
            raise Diverged(
                f"the gradient's norm, {norm:.3g}, was over {TIMES_THE_MEDIAN:g} times the median "
                f"{median:.3g} in {self._large} steps on end: lower train.learning_rate"
            )


class WatchedTrainer(Trainer):
    """A trainer that judges every step's gradient, and what there is to learn from."""

    _watch: GradientWatch | None = None

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        found = super()._get_grad_norm(model, grad_norm=grad_norm)
        norm = float(found)
        if self._watch is None:
            require_shared(norm)
            self._watch = GradientWatch(loss_scaled=bool(self.args.fp16))
        self._watch.see(norm)
        return found

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        items = super()._get_num_items_in_batch(batch_samples, device)
        if items is not None and batch_samples and int(items) == 0:
            raise Diverged(
                f"the batch after step {self.state.global_step} has no supervised token: nothing "
                "to learn; look at train.seq_len, which may cut the answers off, and at the data"
            )
        return items

    def _run_epoch(self, **named: Any) -> None:
        # transformers looks only after a step whether training is to stop, or all steps are done:
        # a run that resumes at its end, amid an epoch, would do one more
        done = self.state.global_step >= self.state.max_steps
        if not (self.control.should_training_stop or done):
            super()._run_epoch(**named)

    def unprepared(self) -> None:
        """Forget that the model was evaluated before training.

        accelerate 1.15 marks a model that it has seen in evaluation as prepared, and hands it to
        training without DistributedDataParallel: the ranks would train apart, each on its share.
        """
        self.accelerator._models.clear()
        vars(self.model).pop("_is_accelerate_prepared", None)


def require_shared(norm: float) -> None:
    """Raises RuntimeError where ranks do not have one gradient. All ranks together."""
    me = ranks()
    firsts = me.from_first(norm)
    if not math.isclose(firsts, norm, rel_tol=SAME_NORM) and math.isfinite(norm):
        raise RuntimeError(
            f"rank {me.rank} has a gradient of norm {norm}, rank 0 {firsts}: they train apart"
        )
