"""Every row of a job's data files, read once: what a plan needs to know, and what is wrong."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from jobs.spec import JobSpec, full_text, supervised_text
from jobs.spec import replayed as draws
from jobs.spec.reading import Found, read_rows
from jobs.spec.splits import Arranged, Identity, arrange, identity, warnings_of
from jobs.spec.tables import BadTable, unit_of
from launcher.errors import BadInput
from launcher.inputs.answerable import Shown, judged, shown
from launcher.types import TOKENS_PER_CHARACTER, DataFacts, Judged
from results.sums import sha256_of

GROUPS = 64  # that the rows' lengths are told in


class _Item(NamedTuple):
    """What is kept of a row."""

    identity: Identity
    characters: int
    shown: Shown | None  # by its answer


# What was found in which files by which settings, for this process: the plans of a sweep and of a
# ladder's rungs are of the same rows.
_known: dict[bytes, DataFacts] = {}


def scan_data(job: JobSpec) -> DataFacts:
    """Read every row once: counts and characters for the plan, and what is wrong with which line.

    The sets are the job's own: both call `arrange`. Raises BadInput for a broken line, a row that
    can teach nothing, an empty file, and sets that judge nothing or leave nothing to train on.
    """
    data = job.data
    named = (data.train, data.validation, data.test, data.replay)
    digests = {path: _digest(path) for path in named if path is not None}
    key = msgspec.json.encode((data, job.seed, job.regression, job.eval.limit, digests))
    if key not in _known:
        _known[key] = _scanned(job, digests)
    return _known[key]


def _scanned(job: JobSpec, digests: dict[str, str]) -> DataFacts:
    data = job.data
    paths = {"train": data.train, "validation": data.validation, "test": data.test}
    scans = {name: _Scan(path, job) for name, path in paths.items() if path is not None}
    given = {name: scan.items for name, scan in scans.items()}
    try:
        found = arrange(given, lambda item: item.identity, data.held_out_shares, job.seed)
    except ValueError as error:
        raise BadInput(f"{data.train}: {error}") from None
    return _facts(job, scans, found, digests)


def assumed_data(job: JobSpec, rows: int) -> DataFacts:
    """Facts of data that nobody has yet: `rows` of full length, and a tenth of them held out."""
    said = f"no data given: {rows:,} rows of {job.train.seq_len:,} tokens are assumed"
    characters = round(job.train.seq_len / TOKENS_PER_CHARACTER)
    held_out = -(-rows // 10)
    return DataFacts(
        train_path=job.data.train,
        validation_path=None,
        train_rows=rows,
        validation_rows=held_out,
        train_characters=rows * characters,
        longest_characters=characters,
        validation_characters=held_out * characters,
        sha256="",
        warnings=(f"{said}; --data FILE, or --rows N, says otherwise",),
    )


def _facts(
    job: JobSpec, scans: dict[str, "_Scan"], found: Arranged[_Item], digests: dict[str, str]
) -> DataFacts:
    data = job.data
    train, validation = found.sets["train"], found.sets["validation"]
    test = found.sets.get("test", [])
    replayed = _replay(job, len(train))
    lengths = [item.characters for item in train] + replayed
    judging = [item.characters for item in (*validation, *test)]
    shapes: dict[str, int] = {}
    for scan in scans.values():
        for shape, count in scan.shapes.items():
            shapes[shape] = shapes.get(shape, 0) + count
    return DataFacts(
        train_path=data.train,
        validation_path=data.validation,
        train_rows=len(lengths),
        validation_rows=len(validation),
        train_characters=sum(lengths),
        longest_characters=max(lengths),
        longest_judged_characters=max(judging, default=0),
        row_characters=_grouped(lengths),
        validation_characters=_characters(validation),
        sha256=digests[data.train],
        validation_sha256=digests.get(data.validation or ""),
        test_rows=len(test),
        test_characters=_characters(test),
        test_sha256=digests.get(data.test or ""),
        shapes=shapes,
        repeated_rows=sum(count.rows for count in found.repeated.values()),
        left_out_rows=sum(count.rows for count in found.left_out.values()),
        warnings=(*warnings_of(found), *_unread_scores(scans.values())),
        replay_rows=len(replayed),
        replay_sha256=digests.get(data.replay or ""),
        judged=_judged(job, found, "test" if test else "validation"),
        choosing=_judged(job, found, "validation"),
    )


def _judged(job: JobSpec, found: Arranged[_Item], where: str) -> Judged:
    limit = job.eval.limit if job.regression is None else None  # a student scores them all
    return judged(where, (item.shown for item in found.sets[where]), limit)


def _unread_scores(scans: Collection["_Scan"]) -> Iterator[str]:
    """A warning where scores stand beside texts that are trained on as plain text."""
    scored = sum(scan.scored for scan in scans)
    if scored:
        names = next(scan.dimensions for scan in scans if scan.scored)
        yield (
            f"{scored:,} rows have `scores` beside their `text`, which nothing learns: they are "
            "plain text here; a student that gives them: --set task=regression "
            f"--set 'regression.dimensions=[{', '.join(names)}]'"
        )


def _replay(job: JobSpec, new_rows: int) -> list[int]:
    """Characters of the rows that the old file adds to the mix, at most: those whose question
    stands among the new ones are left out by the job, which reads both. Which of them are drawn is
    the job's to say; here they are taken evenly from the shortest to the longest."""
    if job.data.replay is None:
        return []
    old = _Scan(job.data.replay, job)
    lengths = sorted(item.characters for item in old.items)
    count = min(draws(new_rows, job.data.replay_share), len(lengths))
    return [lengths[len(lengths) * (2 * i + 1) // (2 * count)] for i in range(count)]


def _grouped(lengths: list[int]) -> tuple[float, ...]:
    """Their means in at most GROUPS groups of as many rows, the shortest first."""
    ordered, groups = sorted(lengths), min(GROUPS, len(lengths))
    bounds = [len(ordered) * i // groups for i in range(groups + 1)]
    return tuple(sum(ordered[start:end]) / (end - start) for start, end in pairwise(bounds))


def _characters(items: Sequence[_Item]) -> int:
    return sum(item.characters for item in items)


def _digest(path: str) -> str:
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise BadInput(_unreadable(path, error)) from None


def _unreadable(path: str, error: OSError) -> str:
    return f"{path}: {error.strerror or error}; give a file of rows"


class _Scan:
    """A file's rows."""

    def __init__(self, path: str, job: JobSpec) -> None:
        self.items: list[_Item] = []
        self.shapes: dict[str, int] = {}
        self._asked = job.regression
        self.scored = 0  # plain texts with scores beside them
        self.dimensions: tuple[str, ...] = ()  # of the first of them
        try:
            unit = unit_of(path)
            for found in read_rows(path, job.regression):
                self._take(found, unit)
        except BadTable as error:
            raise BadInput(f"{path}{error.place}: {error.why}") from None
        except OSError as error:
            raise BadInput(_unreadable(path, error)) from None

    def _take(self, found: Found, unit: str) -> None:
        if not supervised_text(found.row).strip():
            why = "no text to learn from (the answer is empty or missing)"
            raise BadTable(why, found.number, unit)
        row = found.row
        self.items.append(_Item(identity(row), len(full_text(row)), shown(row, self._asked)))
        scores = found.fields.get("scores")
        if found.shape == "text" and isinstance(scores, dict):
            self.dimensions = self.dimensions or tuple(scores)
            self.scored += 1
        self.shapes[found.shape] = self.shapes.get(found.shape, 0) + 1
