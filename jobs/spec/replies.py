"""An answer, read as the JSON object that it should be."""

import json
from typing import NamedTuple


class Reply(NamedTuple):
    """What an answer cites, and whether it refuses (`answer` is null)."""

    citations: frozenset[str]
    refused: bool


def read_reply(text: str) -> Reply | None:
    """None where the text is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    cited = value.get("citation")
    many = cited if isinstance(cited, list) else [] if cited is None else [cited]
    return Reply(frozenset(map(str, many)), "answer" in value and value["answer"] is None)
