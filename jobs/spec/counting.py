"""What launcher and job must count alike."""

import re

# In a name `7B`, not in the middle of a word or number: "A3B" (active parameters of a mixture of
# experts), "8x7B", "v0.3", "4bit" and "1_8B" say nothing safe.
_NAMED = re.compile(r"(?<![A-Za-z0-9.])(?<!\d_)(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")

# Names round: Gemma-2-2b holds 2.61 B (1.31), Llama-3.2-1B 1.24 B, gemma-7b 8.54 B (1.22). A name
# that is off by a size class (7B against 0.5B, 1.5B or 3B) lies far outside. Assumption.
NAME_RATIO_LOW, NAME_RATIO_HIGH = 0.7, 1.45


def named_parameters(model_id: str) -> float | None:
    """Parameters that a name claims ("7B" → 7e9, "135M" → 135e6), None where it says nothing."""
    match = _NAMED.search(model_id.rstrip("/").rsplit("/", 1)[-1])
    if match is None:
        return None
    return float(match[1]) * (1e9 if match[2] in "bB" else 1e6)


def name_disagrees(named: float | None, parameters: int) -> bool:
    """Whether the real count lies outside NAME_RATIO_LOW..HIGH times what the name claims."""
    return named is not None and not NAME_RATIO_LOW <= parameters / named <= NAME_RATIO_HIGH


def held_out_rows(rows: int, *shares: float) -> tuple[int, ...]:
    """How many of `rows` each share keeps from training: at least one, and one is left to train on.

    Raises ValueError for fewer rows than that takes.
    """
    if rows <= len(shares):
        raise ValueError(f"{rows} rows cannot be both trained on and held out; give more")
    counts = [max(1, round(rows * share)) for share in shares]
    while sum(counts) >= rows:  # few rows: the largest share gives one back
        counts[counts.index(max(counts))] -= 1
    return tuple(counts)
