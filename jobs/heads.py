"""A regression head that starts from the base model's own features instead of from noise.

The head's weights are the ridge regression of the training scores on the untouched model's last
hidden states: the linear probe that fine-tuning then starts from (Kumar et al. 2022, "Fine-tuning
can distort pretrained features and underperform out-of-distribution"). How much of a ridge is
chosen by the leave-one-out error, which for ridge regression has a closed form (Hastie et al.,
The Elements of Statistical Learning, section 7.10).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from jobs.scores import Array

# Rows that the probe is fitted on at most. Assumption: one forward pass over so many is a small
# part of an epoch of the jobs this is for (thousands of texts).
PROBED_ROWS = 1000
RIDGES = tuple(10.0**power for power in range(-2, 6))  # times the features' mean square


def fit_head(model: Any, head: Any, rows: Any, collate: Any, batch: int) -> float:
    """Set the head's weights from `rows`; returns the probe's leave-one-out mean absolute error.

    `rows` is a dataset of `input_ids`, `attention_mask` and `labels`, padded on the right by
    `collate`; `head` is a linear layer without bias, (scores, hidden).
    """
    some = rows.select(range(min(PROBED_ROWS, len(rows))))
    features, wanted = features_of(model, head, some, collate, batch)
    weights, error = ridge(features, wanted)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights.T))
    return error


def features_of(model: Any, head: Any, rows: Any, collate: Any, batch: int) -> tuple[Array, Array]:
    """What the head reads, shape (rows, hidden), and the scores it should give."""
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training = model.training
    model.eval()
    features = []
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                some = [rows[i] for i in range(start, min(start + batch, len(rows)))]
                inputs = collate(some).to(model.device)
                inputs.pop("labels")
                model(**inputs)
                hidden = seen.pop()
                last = inputs["attention_mask"].sum(dim=1) - 1
                features.append(hidden[torch.arange(len(some)), last].float().cpu().numpy())
    finally:
        hook.remove()
        model.train(training)
    return np.concatenate(features).astype(np.float64), np.array(rows["labels"], dtype=np.float64)


def ridge(features: Array, wanted: Array, ridges: Sequence[float] = RIDGES) -> tuple[Array, float]:
    """Weights of shape (hidden, scores), and their leave-one-out mean absolute error."""
    left, spread, right = np.linalg.svd(features, full_matrices=False)
    best: tuple[float, Array] | None = None
    for times in ridges:
        shrunk = spread**2 / (spread**2 + times * np.square(features).mean())
        fitted = left @ (shrunk[:, None] * (left.T @ wanted))
        leverage = np.square(left) @ shrunk
        error = np.abs((wanted - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]).mean()
        if best is None or error < best[0]:
            best = (float(error), right.T @ ((shrunk / spread)[:, None] * (left.T @ wanted)))
    assert best is not None, "there is at least one ridge"
    return best[1], best[0]
