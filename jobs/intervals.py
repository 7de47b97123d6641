"""How far a figure may be off by chance: 95 % confidence intervals. Pure; numpy alone.

Shares get Wilson's interval from their counts, which stays inside 0 to 1 and does not collapse at
0 of n or n of n as the normal approximation does. Means and what is computed from rows get the
percentile bootstrap over rows. Both hold for rows that are independent draws of what the model
will be asked: several rows of one source are fewer than they look.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from jobs.spec import Interval

Array = np.ndarray[Any, np.dtype[np.float64]]

Z = 1.959964  # the 97.5 % quantile of the normal distribution
RESAMPLES = 1000  # Efron and Tibshirani 1993, section 13.3: enough for percentile intervals
METHOD_SHARE = "Wilson, 95 %"
METHOD_ROWS = f"bootstrap over rows, {RESAMPLES:,} resamples, 95 %"


def wilson(hits: int, n: int) -> Interval:
    """Wilson's score interval of `hits` in `n` (Wilson 1927). Raises ValueError for n of 0."""
    if n < 1:
        raise ValueError("a share of nothing has no interval")
    share = hits / n
    scale = 1 + Z * Z / n
    centre = (share + Z * Z / (2 * n)) / scale
    half = Z / scale * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    # At the ends the exact bound is the end itself; rounding would put it a hair beside it.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return Interval(low=low, high=high, n=n, method=METHOD_SHARE)


def bootstrap(rows: Array, statistic: Callable[[Array], Array], seed: int) -> list[Interval]:
    """Percentile intervals of every figure that `statistic` computes from rows.

    `rows` has shape (rows, columns); `statistic` takes such an array, resampled, and gives an
    array of figures. The seed makes the draws the same for the same rows.
    """
    draw = np.random.default_rng(seed)
    count = len(rows)
    found = np.array(
        [statistic(rows[draw.integers(0, count, count)]) for _ in range(RESAMPLES)], dtype=float
    )
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    return [
        Interval(low=float(a), high=float(b), n=count, method=METHOD_ROWS)
        for a, b in zip(low, high, strict=True)
    ]


def mean(rows: Array) -> Array:
    """The mean of each column, as a statistic."""
    found: Array = rows.mean(axis=0)
    return found
