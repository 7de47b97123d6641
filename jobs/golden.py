"""The golden set: questions of their own, each with what an answer to it may cite."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from jobs.citations import Source, sources_of
from jobs.data import Line, bad_row
from jobs.encode import Encoder, Question
from jobs.outcome import BadInput
from jobs.spec.reading import read_rows
from jobs.spec.rows import asked_of
from jobs.spec.tables import BadTable


@dataclass(frozen=True)
class GoldenRow:
    """A line of the golden set; `sources` is None where the row names none."""

    line: Line
    sources: tuple[Source, ...] | None


def read_golden(path: Path) -> list[GoldenRow]:
    """All rows of a golden set, in the shapes of training rows.

    Raises `BadInput` with file and line for a row that asks nothing or has no answer to it.
    """
    golden = []
    try:
        for found in read_rows(str(path)):
            line = Line(found.row, path, found.number, found.shape)
            if asked_of(line.row) is None:
                raise BadInput(f"{line}: nothing to ask: expected a question and its answer")
            golden.append(GoldenRow(line, sources_of(found.fields)))
    except BadTable as error:
        raise bad_row(path, error) from error
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: row {len(golden) + 1}: {error}") from error
    return golden


def questions_of(encoder: Encoder, rows: Sequence[GoldenRow]) -> list[Question]:
    """What to ask of the rows, each question with what an answer to it may cite."""
    asked = ((encoder.question(row.line), row.sources) for row in rows)
    return [replace(question, sources=s) for question, s in asked if question is not None]
