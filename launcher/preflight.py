"""What can be checked before anything is rented or started."""

import hashlib
from collections.abc import Iterator

import msgspec

from jobs.spec import (
    JobSpec,
    Row,
    ScoresRow,
    full_text,
    held_out_rows,
    parse_row,
    replayed,
    scores_of,
    supervised_text,
)
from launcher.errors import BadInput
from launcher.types import DataFacts


def scan_data(job: JobSpec) -> DataFacts:
    """Read every row once: counts and characters for the plan, and what is wrong with which line.

    Raises BadInput for a broken line, a row that can teach nothing, and an empty file.
    """
    data = job.data
    train = _Scan(data.train, job)
    given = {"validation": data.validation, "test": data.test}
    sets = {name: _facts(_Scan(path, job)) for name, path in given.items() if path is not None}
    shares = data.held_out_shares
    for name, count in zip(
        shares, _held_out(data.train, train.rows, *shares.values()), strict=True
    ):
        sets[name] = (count, round(train.characters * count / train.rows), None)
    validation, test = sets["validation"], sets.get("test", (0, 0, None))
    rows = train.rows - sum(sets[name][0] for name in shares)
    characters = train.characters - sum(sets[name][1] for name in shares)
    replay, replay_characters, replay_sha256 = _replay(job, rows)
    return DataFacts(
        train_path=data.train,
        validation_path=data.validation,
        train_rows=rows + replay,
        validation_rows=validation[0],
        train_characters=characters + replay_characters,
        longest_characters=train.longest,
        validation_characters=validation[1],
        sha256=train.sha256,
        validation_sha256=validation[2],
        test_rows=test[0],
        test_characters=test[1],
        test_sha256=test[2],
        replay_rows=replay,
        replay_sha256=replay_sha256,
    )


def _replay(job: JobSpec, new_rows: int) -> tuple[int, int, str | None]:
    """Rows and characters that the old file adds to the mix, at most: those that stand among the
    new ones are left out by the job, which reads both."""
    if job.data.replay is None:
        return 0, 0, None
    old = _Scan(job.data.replay, job)
    count = min(replayed(new_rows, job.data.replay_share), old.rows)
    return count, round(old.characters * count / old.rows), old.sha256


def _facts(scan: "_Scan") -> tuple[int, int, str | None]:
    return scan.rows, scan.characters, scan.sha256


def _held_out(path: str, rows: int, *shares: float) -> tuple[int, ...]:
    try:
        return held_out_rows(rows, *shares)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


class _Scan:
    """One pass over a JSON-lines file."""

    def __init__(self, path: str, job: JobSpec) -> None:
        self.rows = self.characters = self.longest = 0
        digest = hashlib.sha256()
        for number, line in _lines(path):
            digest.update(line)
            if not line.strip():
                continue
            row = _row(path, number, line, job)
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


def _row(path: str, number: int, line: bytes, job: JobSpec) -> Row:
    try:
        row = parse_row(line, job.task)
        if isinstance(row, ScoresRow) and job.regression is not None:
            scores_of(row, job.regression)
        return row
    except msgspec.ValidationError as error:
        raise BadInput(f"{path} line {number}: {str(error)[0].lower()}{str(error)[1:]}") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"{path} line {number}: not JSON: {error}") from None
    except ValueError as error:
        raise BadInput(f"{path} line {number}: {error}") from None
