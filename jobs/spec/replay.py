"""Old rows in a continued run's training: which, and how many. Launcher and job count alike."""

import math
import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def replayed(new_rows: int, share: float) -> int:
    """How many old rows make up `share` of a mix with `new_rows` new ones."""
    return math.floor(new_rows * share / (1 - share) + 0.5)


def draw(
    old: Sequence[T], keys: Sequence[bytes], known: Iterable[bytes], count: int, seed: int
) -> list[T]:
    """`count` of the old rows by the seed, in the file's order; fewer where there are no more.

    What stands among the `known` keys (training, validation and test rows) is left out, and what
    stands twice is drawn once at most.
    """
    seen = set(known)
    fresh = []
    for row, key in zip(old, keys, strict=True):
        if key not in seen:
            seen.add(key)
            fresh.append(row)
    if count >= len(fresh):
        return fresh
    return [fresh[i] for i in sorted(random.Random(seed).sample(range(len(fresh)), count))]
