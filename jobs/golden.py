"""The golden set: questions of their own, each with what an answer to it may cite."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.citations import Source, sources_of
from jobs.data import Line, read_lines
from jobs.encode import asked_of
from jobs.outcome import BadInput


@dataclass(frozen=True)
class GoldenRow:
    """A line of the golden set; `sources` is None where the row names none."""

    line: Line
    sources: tuple[Source, ...] | None


def read_golden(path: Path) -> list[GoldenRow]:
    """All rows of a golden set, in the shapes of training rows.

    Raises `BadInput` with file and line for a row that asks nothing or has no answer to it.
    """
    raw = path.read_bytes().split(b"\n")
    found = []
    for line in read_lines(path):
        if asked_of(line.row) is None:
            raise BadInput(f"{line}: nothing to ask: expected a question and its answer")
        try:
            sources = sources_of(raw[line.number - 1])
        except msgspec.DecodeError as error:
            raise BadInput(f"{line}: {error}") from None
        found.append(GoldenRow(line, sources))
    return found
