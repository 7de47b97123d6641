"""What can be checked before anything is rented or started."""

import hashlib
from collections.abc import Iterator

import msgspec

from jobs.spec import Data, Row, full_text, parse_row, supervised_text
from launcher.errors import BadInput
from launcher.types import DataFacts


def scan_data(data: Data) -> DataFacts:
    """Read every row once: counts and characters for the plan, and what is wrong with which line.

    Raises BadInput for a broken line, a row that can teach nothing, and an empty file.
    """
    train = _Scan(data.train)
    if data.validation is not None:
        validation = _Scan(data.validation)
        held_out, validation_characters = validation.rows, validation.characters
    else:
        held_out = max(1, round(train.rows * data.validation_share))
        validation_characters = round(train.characters * held_out / train.rows)
    from_train = held_out if data.validation is None else 0
    if train.rows <= from_train:
        raise BadInput(f"{data.train}: {train.rows} row is too few to hold out a validation set")
    return DataFacts(
        train_path=data.train,
        validation_path=data.validation,
        train_rows=train.rows - from_train,
        validation_rows=held_out,
        train_characters=train.characters - (validation_characters if from_train else 0),
        longest_characters=train.longest,
        validation_characters=validation_characters,
        sha256=train.sha256,
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
