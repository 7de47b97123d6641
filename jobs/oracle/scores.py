"""Scores out of an answer, or why there are none. Nothing is repaired or clamped."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from jobs.spec.label import Dimension

_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(.*?)\n[ \t]*```\s*", re.DOTALL)


class Unusable(Exception):
    """The answer holds no scores; says why in a few words that answers alike share."""


def read_scores(
    content: str, dimensions: Mapping[str, Dimension], fenced: bool = False
) -> dict[str, float]:
    """A number in its range for every dimension, in their order; other keys are passed over.

    `fenced` also reads JSON that stands in one Markdown fence. Raises `Unusable`.
    """
    match = _FENCE.fullmatch(content) if fenced else None
    try:
        found = msgspec.json.decode(match[1] if match else content)
    except msgspec.DecodeError:
        raise Unusable("not JSON") from None
    if not isinstance(found, dict):
        raise Unusable("not a JSON object")
    return {name: _score(found, name, dimension) for name, dimension in dimensions.items()}


def _score(found: dict[str, Any], name: str, dimension: Dimension) -> float:
    if name not in found:
        raise Unusable(f"no `{name}`")
    value = found[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable(f"`{name}` is no number")
    if not dimension.min <= value <= dimension.max:
        raise Unusable(f"`{name}` is not in {dimension.min:g} to {dimension.max:g}")
    if dimension.type == "integer" and value != int(value):
        raise Unusable(f"`{name}` is no integer")
    return float(value)
