"""Whether what an answer cites is there at all. Pure.

A row may say in `source` or `sources` what may be cited: ids, or passages, or objects with `id`
and `text`. A cited id exists when it is one of them, or stands in a passage as a word of its own.
For rows that say nothing it exists when any reference or training answer cites it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jobs.spec.replies import Reply, read_reply


class Passage(msgspec.Struct, frozen=True):
    """A source with a name of its own."""

    id: str | int
    text: str = ""


Source = str | Passage


class _Row(msgspec.Struct):
    source: Source | list[Source] | None = None
    sources: Source | list[Source] | None = None


def sources_of(fields: Mapping[str, Any]) -> tuple[Source, ...] | None:
    """What a row says may be cited; None where it says nothing.

    Raises `msgspec.ValidationError` for a `source` of another shape.
    """
    row = msgspec.convert({k: fields[k] for k in ("source", "sources") if k in fields}, _Row)
    if row.source is None and row.sources is None:
        return None
    found: list[Source] = []
    for given in (row.source, row.sources):
        found += given if isinstance(given, list) else [] if given is None else [given]
    return tuple(found)


def exists(cited: str, sources: Iterable[Source]) -> bool:
    """Whether an id is one of the sources, or stands in one of their texts."""
    word = re.compile(rf"(?<!\w){re.escape(cited)}(?!\w)")
    for source in sources:
        name, text = (str(source.id), source.text) if isinstance(source, Passage) else ("", source)
        if cited in (name, text) or word.search(text):
            return True
    return False


def cited_anywhere(texts: Iterable[str]) -> frozenset[str]:
    """Every id that any of the answers cites."""
    replies = filter(None, map(read_reply, texts))
    return frozenset(cited for reply in replies for cited in reply.citations)


def existing(
    replies: Sequence[Reply | None],
    sources: Sequence[tuple[Source, ...] | None],
    known: frozenset[str],
) -> list[bool]:
    """For each id that the answers cite, one after the other, whether it exists."""
    found = []
    for reply, given in zip(replies, sources, strict=True):
        for cited in sorted(reply.citations) if reply is not None else ():
            found.append(cited in known if given is None else exists(cited, given))
    return found
