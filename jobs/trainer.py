"""TRL's and transformers' trainers, without what a job in a log does not want."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from jobs.gradients import WatchedTrainer
from jobs.losses import mean
from jobs.ranks import ranks

LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": torch.nn.functional.l1_loss,
    "mse": torch.nn.functional.mse_loss,
    "huber": torch.nn.functional.huber_loss,
}


def loss_of(name: str, predicted: Any, wanted: Any) -> float:
    """A regression loss between two arrays of shape (rows, dimensions)."""
    return float(LOSSES[name](torch.tensor(predicted), torch.tensor(wanted)))


class SftTrainer(WatchedTrainer, SFTTrainer):
    """Prints no dictionaries, writes no model cards.

    `measure()` gives what each evaluation in training has beside the loss, by name. An evaluation
    leaves each row's summed loss and supervised tokens in `row_losses`.
    """

    measure: Callable[[], dict[str, float]] | None = None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.row_losses: list[list[float]] = []
        self.remove_callback(PrinterCallback)

    def evaluation_loop(self, *positional: Any, **named: Any) -> EvalLoopOutput:
        self.row_losses = []
        output = super().evaluation_loop(*positional, **named)
        # transformers' is the mean of the batches' means, which hangs on the micro-batch
        output.metrics["eval_loss"] = mean(np.array(self.row_losses))
        if self.measure is not None and self.is_in_train:
            me = ranks()  # rank 0 generates; all choose the epoch by what it found
            found = me.from_first(self.measure() if me.first else {})
            output.metrics.update({f"eval_{n}": v for n, v in found.items()})
        return output

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, Any, Any]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs | {"use_cache": False}, fused_lm_head=True)
        found = self.accelerator.gather_for_metrics(by_row(outputs, inputs.get("position_ids")))
        self.row_losses += found.tolist()
        return outputs.loss.detach(), None, None

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's report says more."""


def by_row(outputs: Any, position_ids: torch.Tensor | None) -> torch.Tensor:
    """(rows, 2): summed loss and supervised tokens of each row of a batch, from TRL's fused head.

    Padding-free batches hold all their rows one after the other, each from position 0.
    """
    losses, counted = -outputs.log_probs.float(), outputs.label_mask.float()
    if position_ids is None or position_ids.shape[0] != 1:
        return torch.stack([losses.sum(dim=1), counted.sum(dim=1)], dim=1)
    row = (position_ids[0] == 0).cumsum(dim=0)[1:] - 1  # of the token that is predicted
    found = torch.zeros(int(row[-1]) + 1, 2, device=losses.device)
    return found.index_add(0, row, torch.stack([losses[0], counted[0]], dim=1))


class RegressionTrainer(WatchedTrainer):
    """The mean error of all outputs by the loss of one's choice, in fp32.

    transformers' own `problem_type: regression` is mean squared error alone.
    """

    def __init__(self, loss: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._loss = LOSSES[loss]
        self._tokens = 0
        # The model's forward takes any keyword, which transformers reads as "it divides the loss
        # by the accumulated batch itself"; ours is a mean over one micro-batch.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        labels = inputs.pop("labels")
        output = model(**inputs)
        if model.training:
            self._tokens += int(inputs["attention_mask"].sum())
        loss = self._loss(output.logits.float(), labels.float())
        return (loss, {"logits": output.logits}) if return_outputs else loss

    def log(self, logs: dict[str, float], *positional: Any, **named: Any) -> None:
        tokens = self.accelerator.reduce(torch.tensor(self._tokens, device=self.args.device))
        super().log({**logs, "num_tokens": int(tokens)}, *positional, **named)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's report says more."""


def padded(tokenizer: Any) -> transformers.DataCollatorWithPadding:
    """Rows of one batch, padded on the right to the longest of them."""
    return transformers.DataCollatorWithPadding(tokenizer)


def quiet() -> None:
    """Errors only, and no bars: the log is read by people and shown when a job fails."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch|bitsandbytes|peft")
