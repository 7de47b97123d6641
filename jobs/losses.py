"""Loss and perplexity from each row's own, and how far they may be off."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jobs.aside import write_aside
from jobs.intervals import Array, bootstrap
from jobs.outcome import require_finite
from jobs.own_metrics import Measured

# exp(709) is the largest a float holds; a perplexity beyond this says nothing more.
LARGEST_EXPONENT = 700.0


def by_row(tuner: Any, rows: Any) -> Array:
    """(rows, 2): the summed loss of each row in nats, and its supervised tokens."""
    tuner.evaluate(eval_dataset=rows)
    return np.array(tuner.row_losses, dtype=np.float64).reshape(-1, 2)


def known(path: Path, count: int) -> Array | None:
    """The rows' losses that an earlier attempt kept; None where it did not."""
    try:
        found = np.array(msgspec.json.decode(path.read_bytes(), type=list[tuple[float, float]]))
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if len(found) == count else None


def keep(path: Path, rows: Array) -> None:
    """Write the rows' losses down, for an attempt after this one."""
    write_aside(path, msgspec.json.encode(rows.tolist()))


def mean(rows: Array) -> float:
    """Nats per supervised token, over all rows together."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def measured(rows: Array, seed: int) -> Measured:
    """`loss`, and `perplexity`, its exponential. Raises `Diverged` when it is no number."""
    loss = require_finite(mean(rows), "the validation loss")
    (near,) = bootstrap(rows, lambda drawn: drawn[:, :1].sum(axis=0) / drawn[:, 1].sum(), seed)
    raised = msgspec.structs.replace(near, low=perplexity(near.low), high=perplexity(near.high))
    return Measured(
        {"loss": loss, "perplexity": perplexity(loss)}, {"loss": near, "perplexity": raised}
    )


def perplexity(loss: float) -> float:
    """The exponential of a finite loss, or the largest that says anything."""
    return math.exp(min(loss, LARGEST_EXPONENT))
