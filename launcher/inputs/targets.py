"""Pure: what `--to` and `--gate` say."""

import math
import re
from collections.abc import Sequence
from typing import get_args

from msgspec import Struct

from jobs.spec import Gate, GgufType
from launcher.errors import BadInput

TYPES: tuple[GgufType, ...] = get_args(GgufType)


class Targets(Struct, frozen=True, kw_only=True):
    merged: bool
    gguf: tuple[GgufType, ...]  # all files to make, the one for Ollama among them
    ollama: GgufType | None


def targets(words: Sequence[str], for_ollama: GgufType) -> Targets:
    """What the words of `--to` ask for; `for_ollama` is the type of a plain `ollama`.

    Raises BadInput.
    """
    merged, gguf, served = False, [], []
    for word in words:
        kind, colon, name = word.partition(":")
        if kind == "merged" and not colon:
            merged = True
        elif kind == "gguf" and colon:
            gguf.append(_type(word, name))
        elif kind == "ollama":
            served.append(_type(word, name) if colon else for_ollama)
        else:
            raise BadInput(f"--to {word}: expected merged, gguf:TYPE or ollama[:TYPE]; {_known()}")
    if len(set(served)) > 1:
        raise BadInput(f"--to ollama: one type at a time, got {' and '.join(served)}")
    return Targets(
        merged=merged,
        gguf=tuple(dict.fromkeys((*gguf, *served))),
        ollama=served[0] if served else None,
    )


def gate(text: str) -> Gate:
    """`perplexity_change<=0.05` → a gate. Raises BadInput."""
    found = re.fullmatch(r"\s*([A-Za-z][\w/.-]*)\s*(>=|<=)\s*(\S+)\s*", text)
    try:
        bound = float(found[3]) if found is not None else None
    except ValueError:
        bound = None
    if found is None or bound is None or not math.isfinite(bound):
        raise BadInput(f"--gate {text}: expected METRIC>=NUMBER or METRIC<=NUMBER")
    least = found[2] == ">="
    return Gate(metric=found[1], min=bound if least else None, max=None if least else bound)


def _type(word: str, name: str) -> GgufType:
    for known in TYPES:
        if name == known:
            return known
    raise BadInput(f"--to {word}: unknown type; {_known()}")


def _known() -> str:
    return f"TYPE is one of {', '.join(TYPES)}"
