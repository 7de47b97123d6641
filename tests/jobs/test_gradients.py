"""When a gradient is past mending, and when it is only loud."""

import math

import pytest
import torch
from transformers import TrainingArguments

from jobs.gradients import STEPS_IN_A_ROW, TIMES_THE_MEDIAN, GradientWatch, WatchedTrainer
from jobs.outcome import Diverged

CALM = [1.0, 3.0, 0.5, 2.0, 1.5] * 4
LARGE = TIMES_THE_MEDIAN * 1.5 * 1.01


def seen(norms, loss_scaled=False):
    watch = GradientWatch(loss_scaled)
    for norm in norms:
        watch.see(norm)


def test_a_gradient_that_stays_large_ends_training_with_both_figures():
    with pytest.raises(Diverged, match=r"152, was over 100 times the median 1\.5 in 5 steps"):
        seen(CALM + [LARGE] * STEPS_IN_A_ROW)


def test_growing_without_end_is_caught_by_the_median_of_what_was():
    with pytest.raises(Diverged):
        seen(CALM + [LARGE * 10**k for k in range(STEPS_IN_A_ROW)])


@pytest.mark.parametrize(
    "norms",
    [
        CALM * 5,
        CALM + [LARGE] * (STEPS_IN_A_ROW - 1) + CALM,  # a spike, and back
        [LARGE, 1.0, LARGE, 1.0],  # too few steps to say what is usual
        [1.0 / (1 + step) for step in range(200)],  # going down
        [2.0 ** (step / 8) for step in range(200)],  # rising slowly: doubled every 8 steps
        [math.inf] * (STEPS_IN_A_ROW - 1) + CALM,
    ],
)
def test_what_training_may_do(norms):
    seen(norms)


def test_no_number_for_some_steps_ends_training_unless_the_loss_is_scaled():
    for norm in (math.inf, math.nan):
        with pytest.raises(Diverged, match="in 5 steps on end"):
            seen([*CALM, *[norm] * STEPS_IN_A_ROW])
        seen([*CALM, *[norm] * 50], loss_scaled=True)


class Line(torch.nn.Module):
    """One weight; the loss of a row grows with its x."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x, labels, **_):
        return {"loss": (self.weight * x - labels.float()).square().mean()}


def trained(folder, xs, labels=(0, 0)):
    """A real trainer on rows of one x each, in their order, one a step."""
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=len(xs), per_device_train_batch_size=1, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, learning_rate=1e-6,
        train_sampling_strategy="sequential", max_grad_norm=1.0, logging_steps=1,
        remove_unused_columns=False,
    )  # fmt: skip
    rows = [{"x": [x, x], "labels": list(labels)} for x in xs]
    WatchedTrainer(model=Line(), args=arguments, train_dataset=rows).train()


@pytest.mark.filterwarnings("default")
def test_the_trainer_sees_the_norm_before_it_is_clipped(tmp_path):
    trained(tmp_path, [1.0, 2.0] * 10)
    with pytest.raises(Diverged, match="was over 100 times the median"):
        trained(tmp_path, [1.0, 2.0] * 10 + [1e3] * STEPS_IN_A_ROW)
    with pytest.raises(Diverged, match="steps on end"):
        trained(tmp_path, [1.0] * 5 + [1e30] * STEPS_IN_A_ROW)


@pytest.mark.filterwarnings("default")
def test_a_batch_without_a_supervised_token_ends_training(tmp_path):
    with pytest.raises(Diverged, match="the batch after step 0 has no supervised token"):
        trained(tmp_path, [1.0] * 3, labels=(-100, -100))
