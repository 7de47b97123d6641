"""What predicted scores are worth. Arrays of shape (texts, dimensions) in, figures out; no torch.

Mean absolute and root mean squared error overall and for each dimension, in the units of the
scores; where tiers are given, how often the text lands in the right one.
"""

from math import isfinite

import numpy as np

from jobs.intervals import Array, bootstrap, wilson
from jobs.spec import Fit, Interval, Regression

# The bands of a training guide in use: (validation - train) / train error.
VERDICTS = (
    (0.10, "underfits: it can still learn"),
    (0.30, "good"),
    (0.50, "moderate overfitting"),
    (float("inf"), "high overfitting"),
)

# A mean that stands on a tier's bound may miss it by its rounding, in 32 bits by 5e-7 at 10.
TIER_DIGITS = 6


def score(predicted: Array, wanted: Array, asked: Regression) -> dict[str, float]:
    """Metrics by name: `mae`, `rmse`, `mae/<dimension>`, `rmse/<dimension>`, and with tiers
    `tier_accuracy`, `tier_recall/<tier>` and `minority_recall`, the recall of the rarest tier.
    """
    error = predicted - wanted
    found = {"mae": np.abs(error).mean(), "rmse": np.sqrt(np.square(error).mean())}
    for i, name in enumerate(asked.dimensions):
        found[f"mae/{name}"] = np.abs(error[:, i]).mean()
        found[f"rmse/{name}"] = np.sqrt(np.square(error[:, i]).mean())
    if asked.tiers:
        found |= _tiers(tiers_of(predicted, asked), tiers_of(wanted, asked), asked)
    return {name: float(value) for name, value in found.items()}


def overall_of(scores: Array, asked: Regression) -> Array:
    """The weighted mean of each text's scores, shape (texts,)."""
    weights = [asked.weights.get(name, 1.0) for name in asked.dimensions]
    return np.average(scores, axis=1, weights=weights)


def intervals(predicted: Array, wanted: Array, asked: Regression, seed: int) -> dict[str, Interval]:
    """Of every metric of `score`, and of the loss where it is the mean of the rows' own.

    Errors: bootstrap over texts. Tiers: Wilson's, from the counts.
    """
    error = np.abs(predicted - wanted)
    names = ["mae", "rmse", *(f"{kind}/{d}" for kind in ("mae", "rmse") for d in asked.dimensions)]

    def figures(drawn: Array) -> Array:
        mae, mse = drawn.mean(axis=0), np.square(drawn).mean(axis=0)
        return np.concatenate([[mae.mean(), np.sqrt(mse.mean())], mae, np.sqrt(mse)])

    found = dict(zip(names, bootstrap(error, figures, seed), strict=True))
    if asked.loss == "l1":
        found["loss"] = found["mae"]
    if not asked.tiers:
        return found
    same = tiers_of(predicted, asked) == tiers_of(wanted, asked)
    found["tier_accuracy"] = wilson(int(same.sum()), len(same))
    present = tiers_of(wanted, asked)
    for i in np.unique(present):
        hits = same[present == i]
        found[f"tier_recall/{asked.tiers[i].name}"] = wilson(int(hits.sum()), len(hits))
    found["minority_recall"] = found[f"tier_recall/{_rarest(present, asked)}"]
    return found


def _rarest(tiers: Array, asked: Regression) -> str:
    """The name of the tier that fewest texts are in, of those that any is in."""
    counts = {i: int((tiers == i).sum()) for i in range(len(asked.tiers))}
    present = {i: n for i, n in counts.items() if n}
    return asked.tiers[min(present, key=lambda i: present[i])].name


def tiers_of(scores: Array, asked: Regression) -> Array:
    """Index of each text's tier by its overall score; below the first tier's `min` it is 0."""
    bounds = [tier.min for tier in asked.tiers[1:]]
    return np.digitize(overall_of(scores, asked).round(TIER_DIGITS), np.round(bounds, TIER_DIGITS))


def _tiers(predicted: Array, wanted: Array, asked: Regression) -> dict[str, float]:
    found = {"tier_accuracy": (predicted == wanted).mean()}
    for i in np.unique(wanted):
        recall = (predicted[wanted == i] == i).mean()
        found[f"tier_recall/{asked.tiers[i].name}"] = recall
    found["minority_recall"] = found[f"tier_recall/{_rarest(wanted, asked)}"]
    return found


def fit(train: float, validation: float, metric: str = "mae") -> Fit:
    """The gap between the errors on training and validation rows, with its verdict.

    No training error at all leaves the gap open (None), unless validation has none either.
    """
    gap = (validation - train) / train if train else (float("inf") if validation else 0.0)
    verdict = next(word for bound, word in VERDICTS if gap < bound or bound == float("inf"))
    return Fit(
        metric=metric,
        train=train,
        validation=validation,
        gap=gap if isfinite(gap) else None,
        verdict=verdict,
    )
