"""What can be checked before anything is rented or started."""

import hashlib
from collections.abc import Iterator

import msgspec

from jobs.spec import Data, Row, full_text, held_out_rows, parse_row, supervised_text
from launcher.errors import BadInput
from launcher.types import DataFacts


def scan_data(data: Data) -> DataFacts:
    """Read every row once: counts and characters for the plan, and what is wrong with which line.

    Raises BadInput for a broken line, a row that can teach nothing, and an empty file.
    """
    train = _Scan(data.train)
    if data.validation is not None:
        held = _Scan(data.validation)
        rows, characters, sha256 = held.rows, held.characters, held.sha256
        kept_rows, kept_characters = train.rows, train.characters
    else:
        rows, sha256 = train.held_out(data), None
        characters = round(train.characters * rows / train.rows)
        kept_rows, kept_characters = train.rows - rows, train.characters - characters
    return DataFacts(
        train_path=data.train,
        validation_path=data.validation,
        train_rows=kept_rows,
        validation_rows=rows,
        train_characters=kept_characters,
        longest_characters=train.longest,
        validation_characters=characters,
        sha256=train.sha256,
        validation_sha256=sha256,
    )


class _Scan:
    """One pass over a JSON-lines file."""

    def __init__(self, path: str) -> None:
        self.rows = self.characters = self.longest = 0
        digest = hashlib.sha256()
        for number, line in _lines(path):
            digest.update(line)
            if not line.strip():
                continue
            row = _row(path, number, line)
            if not supervised_text(row).strip():
                raise BadInput(
                    f"{path} line {number}: no text to learn from (the answer is empty or missing)"
                )
            length = len(full_text(row))
            self.rows += 1
            self.characters += length
            self.longest = max(self.longest, length)
        if self.rows == 0:
            raise BadInput(f"{path}: the data set is empty; expected one JSON object a line")
        self.sha256 = digest.hexdigest()

    def held_out(self, data: Data) -> int:
        try:
            return held_out_rows(self.rows, data.validation_share)
        except ValueError as error:
            raise BadInput(f"{data.train}: {error}") from None


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give a JSON-lines file") from None


def _row(path: str, number: int, line: bytes) -> Row:
    try:
        return parse_row(line)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path} line {number}: {str(error)[0].lower()}{str(error)[1:]}") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"{path} line {number}: not JSON: {error}") from None
    except ValueError as error:
        raise BadInput(f"{path} line {number}: {error}") from None
