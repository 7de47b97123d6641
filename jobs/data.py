"""The rows of a job: read from its files, held apart for training, validation and test."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import ResolvedSpec, Row, Task, held_out_rows, parse_row


@dataclass(frozen=True)
class Line:
    """A row and where it stands."""

    row: Row
    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


@dataclass(frozen=True)
class Rows:
    """The lines to train on, to choose by, and to look at once at the end (may be none)."""

    train: list[Line]
    validation: list[Line]
    test: list[Line]

    @property
    def judged(self) -> list[Line]:
        """What the result's metrics and gates are taken on."""
        return self.test or self.validation


def read_lines(path: Path, task: Task = "sft") -> list[Line]:
    """All rows of a JSON-lines file; empty lines are passed over.

    Raises `BadInput` with file and line number, or when there is no row at all.
    """
    lines = []
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                lines.append(Line(parse_row(text, task), path, number))
            except (msgspec.DecodeError, ValueError) as error:
                raise BadInput(f"{path}:{number}: {error}") from error
    if not lines:
        raise BadInput(f"{path}: no rows")
    return lines


def hold_out(lines: Sequence[Line], shares: Sequence[float], seed: int) -> list[list[Line]]:
    """The lines to train on, then those of each share, drawn by the seed, in the file's order."""
    try:
        counts = held_out_rows(len(lines), *shares)
    except ValueError as error:
        raise BadInput(f"{lines[0].path}: {error}") from None
    order = random.Random(seed).sample(range(len(lines)), sum(counts))
    held: dict[int, int] = {}  # line → its share
    for share, count in enumerate(counts, start=1):
        held |= dict.fromkeys(order[:count], share)
        order = order[count:]
    return [
        [line for i, line in enumerate(lines) if held.get(i, 0) == share]
        for share in range(len(counts) + 1)
    ]


def read_data(job: ResolvedSpec, run_folder: Path) -> Rows:
    """The lines of the files that the spec was planned with, and of those that it holds out."""
    data = job.data

    def read(name: str, path: str, sha256: str | None) -> list[Line]:
        return read_lines(data_file(path, f"data.{name}", run_folder, sha256), job.task)

    sets = {"train": read("train", data.train, job.train_sha256)}
    if data.validation is not None:
        sets["validation"] = read("validation", data.validation, job.validation_sha256)
    if data.test is not None:
        sets["test"] = read("test", data.test, job.test_sha256)
    shares = data.held_out_shares
    if shares:
        parts = hold_out(sets["train"], list(shares.values()), job.seed)
        sets |= dict(zip(("train", *shares), parts, strict=True))
    return Rows(sets["train"], sets["validation"], sets.get("test", []))
