"""Where a training's curves go as it is made, besides metrics.jsonl."""

from typing import Literal

from msgspec import Struct

Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow"]


class Tracked(Struct, frozen=True, kw_only=True):
    """What was tracked where, and how that ended."""

    tracker: Tracker
    where: str  # an address, or a folder below the run's
    logs: int = 0  # that the tracker took
    problem: str = ""  # why it stopped taking them; "": it took all
