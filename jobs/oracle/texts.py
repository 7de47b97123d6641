"""Which texts are asked about: the input file, the prefilter, the sample."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobs.outcome import BadInput
from jobs.spec.label import Texts

_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Row:
    """One line of the input."""

    id: str | int
    text: str


def read_rows(path: Path, wanted: Texts) -> list[Row]:
    """All rows in the file's order; empty lines are passed over.

    Raises `BadInput` with file and line: not a JSON object, a field that is missing or of another
    type, an id that stands for two different texts. And when there is no row at all.
    """
    rows = []
    first: dict[str | int, tuple[int, str]] = {}
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInput(f"texts.file: {path}: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = _row(line, f"{path}:{number}", number, wanted)
            seen_at, text = first.setdefault(row.id, (number, row.text))
            if text != row.text:
                raise BadInput(f"{path}:{number}: id {row.id!r} has another text on line {seen_at}")
            rows.append(row)
    if not rows:
        raise BadInput(f"{path}: no rows")
    return rows


def _row(line: bytes, where: str, number: int, wanted: Texts) -> Row:
    try:
        fields = _OBJECT.decode(line)
    except msgspec.DecodeError as error:
        raise BadInput(f"{where}: {error}") from None
    text = fields.get(wanted.text_field)
    if not isinstance(text, str):
        raise BadInput(f"{where}: no string `{wanted.text_field}` (texts.text_field names it)")
    if wanted.id_field is None:
        return Row(number, text)
    found = fields.get(wanted.id_field)
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise BadInput(f"{where}: no string or integer `{wanted.id_field}` (texts.id_field)")
    return Row(found, text)


def prefilter(rows: Sequence[Row], wanted: Texts) -> tuple[list[Row], dict[str, int]]:
    """The rows that no rule takes out, and how many each rule took: the first that applies."""
    kept, taken = [], Counter[str]()
    include = re.compile(wanted.include) if wanted.include is not None else None
    exclude = re.compile(wanted.exclude) if wanted.exclude is not None else None
    for row in rows:
        if len(row.text) < wanted.min_characters:
            taken["min_characters"] += 1
        elif wanted.max_characters is not None and len(row.text) > wanted.max_characters:
            taken["max_characters"] += 1
        elif include is not None and not include.search(row.text):
            taken["include"] += 1
        elif exclude is not None and exclude.search(row.text):
            taken["exclude"] += 1
        else:
            kept.append(row)
    return kept, dict(taken)


def draw(rows: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """`count` rows by the seed, in the file's order; all of them when there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    return [rows[i] for i in chosen]
