"""The rows of a job: read from its files, held apart for training, validation and test."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import Regression, ResolvedSpec, Row
from jobs.spec.reading import read_rows
from jobs.spec.splits import arrange, identity, warnings_of
from jobs.spec.tables import BadTable


@dataclass(frozen=True)
class Line:
    """A row and where it stands."""

    row: Row
    path: Path
    number: int
    shape: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


@dataclass(frozen=True)
class Rows:
    """The lines to train on, to choose by, and to look at once at the end (may be none)."""

    train: list[Line]
    validation: list[Line]
    test: list[Line]
    warnings: tuple[str, ...] = ()

    @property
    def judged(self) -> list[Line]:
        """What the result's metrics and gates are taken on."""
        return self.test or self.validation

    def say(self) -> None:
        """Into the job's log: how many of which shape, and what was left out."""
        for name in ("train", "validation", "test"):
            print(f"data.{name}: {_said(getattr(self, name))}", flush=True)
        for warning in self.warnings:
            print(f"WARNING {warning}", flush=True)


def read_lines(path: Path, asked: Regression | None = None) -> list[Line]:
    """All rows of a data file; `asked` is what a regression task wants scored.

    Raises `BadInput` with file and line number, or when there is no row at all.
    """
    try:
        return [
            Line(found.row, path, found.number, found.shape)
            for found in read_rows(str(path), asked)
        ]
    except BadTable as error:
        raise bad_row(path, error) from error


def bad_row(path: Path, error: BadTable) -> BadInput:
    place = "" if error.number is None else f":{error.number}"
    return BadInput(f"{path}{place}: {error.why}")


def read_data(job: ResolvedSpec, run_folder: Path) -> Rows:
    """The lines of the files that the spec was planned with, and of those that it holds out."""
    data = job.data
    given = {
        name: read_lines(data_file(path, f"data.{name}", run_folder, sha256), job.regression)
        for name, path, sha256 in (
            ("train", data.train, job.train_sha256),
            ("validation", data.validation, job.validation_sha256),
            ("test", data.test, job.test_sha256),
        )
        if path is not None
    }
    try:
        found = arrange(given, lambda line: identity(line.row), data.held_out_shares, job.seed)
    except ValueError as error:
        raise BadInput(f"{given['train'][0].path}: {error}") from None
    sets = found.sets
    return Rows(sets["train"], sets["validation"], sets.get("test", []), warnings_of(found))


def _said(lines: Sequence[Line]) -> str:
    shapes = Counter(line.shape for line in lines)
    by_shape = ", ".join(f"{count} {shape}" for shape, count in shapes.most_common())
    return f"{len(lines)} rows" + (f" ({by_shape})" if lines else "")
