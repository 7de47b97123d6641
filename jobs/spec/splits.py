"""Which rows are trained on, chosen by and judged by, so that no question stands in two sets.

A model that has seen a question in training, with whatever answer, is not asked anew. Rows are
the same here when they differ in (ASCII) white space alone; case counts. Launcher and job both call
`arrange`, so that what is planned is what is trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from jobs.spec.counting import held_out_rows
from jobs.spec.rows import Row, ScoresRow, TextRow, full_text, question_text

# 64 bits: among a million rows two different ones are taken for the same with a probability of
# 1e12 / 2**65 = 3e-8.
_DIGEST_BYTES = 8

T = TypeVar("T")


class Identity(NamedTuple):
    """What a row asks, and what it is as a whole, as digests that are equal when those are."""

    question: bytes
    whole: bytes


class Repeated(Struct, frozen=True, kw_only=True):
    """Rows whose question stands elsewhere too."""

    rows: int
    exact: int  # of these, the ones that are the same with their answer


class Arranged(Struct, Generic[T], frozen=True, kw_only=True):
    """The sets by name, and what was found in them."""

    sets: dict[str, list[T]]
    repeated: dict[str, Repeated]  # within a set, the first of each question not counted; kept
    left_out: dict[str, Repeated]  # dropped from a given set: they stand in one that judges it


def identity(row: Row) -> Identity:
    """The row's question, and all of the row."""
    digest = blake2b(_bare(question_text(row)), digest_size=_DIGEST_BYTES)
    question = digest.digest()
    if isinstance(row, TextRow):
        return Identity(question, question)
    if isinstance(row, ScoresRow):
        answer = repr(sorted(row.scores.items())).encode()
    else:
        answer = _bare(full_text(row))
    digest.update(b" " + answer)  # a blank parts the two: neither holds any
    return Identity(question, digest.digest())


def _bare(text: str) -> bytes:
    # Without white space rather than with one blank each: 4 instead of 29 us for 2,400 characters
    # (timeit, 2026-11-21).
    return text.encode().translate(None, b" \t\n\r\v\f")


def arrange(
    given: Mapping[str, Sequence[T]],
    identify: Callable[[T], Identity],
    shares: Mapping[str, float],
    seed: int,
) -> Arranged[T]:
    """The sets to work with, from those that are `given`: train, perhaps validation and test.

    Rows of a given set whose question stands in one that judges it (test before validation before
    train) are left out of it. Then `shares` are held out of what is left of train, by `hold_out`.
    Raises ValueError when a set has nothing left, or train too little to hold anything out.
    """
    sets: dict[str, list[tuple[Identity, T]]] = {}
    left_out = {}
    judging: dict[bytes, set[bytes]] = {}  # question → the whole rows that ask it
    for name in ("test", "validation", "train"):
        if name not in given:
            continue
        found = [(identify(item), item) for item in given[name]]
        seen = [one for one, _ in found if one.question in judging]
        sets[name] = [pair for pair in found if pair[0].question not in judging]
        if seen:
            exact = sum(one.whole in judging[one.question] for one in seen)
            left_out[name] = Repeated(rows=len(seen), exact=exact)
        if not sets[name]:
            raise ValueError(f"every question of data.{name} stands in the rows that judge it")
        for one, _ in sets[name]:
            judging.setdefault(one.question, set()).add(one.whole)
    if shares:
        train = sets["train"]
        parts = hold_out([one.question for one, _ in train], tuple(shares.values()), seed)
        for name, part in zip(("train", *shares), parts, strict=True):
            sets[name] = [train[i] for i in part]
    return Arranged(
        sets={name: [item for _, item in pairs] for name, pairs in sets.items()},
        repeated={
            name: count
            for name, pairs in sets.items()
            if (count := _repeated([one for one, _ in pairs])).rows
        },
        left_out=left_out,
    )


def _repeated(found: Sequence[Identity]) -> Repeated:
    return Repeated(
        rows=len(found) - len({one.question for one in found}),
        exact=len(found) - len(set(found)),
    )


def hold_out(questions: Sequence[bytes], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Indices of the rows to train on, then those of each share, in the order of the rows.

    Rows of one question go together. Which are held out is drawn by a hash of seed and question,
    so that most stay where they are when rows are added. Each share is met as nearly as whole
    questions allow: off by at most half the rows of the smallest question left.
    Raises ValueError where that leaves nothing to train on or nothing held out.
    """
    wanted = held_out_rows(len(questions), *shares)
    groups: dict[bytes, list[int]] = {}
    for i, question in enumerate(questions):
        groups.setdefault(question, []).append(i)
    if len(groups) <= len(shares):
        raise ValueError(
            f"{len(questions)} rows with {len(groups)} different question(s) cannot be both "
            "trained on and held out; give more, or files of their own (a chat asks what stands "
            "before the first answer that it teaches: turns that all have in common belong into a "
            "`prompt`)"
        )
    left = sorted(groups, key=lambda question: blake2b(b"%d " % seed + question).digest())
    parts = []
    for number, count in enumerate(wanted, start=1):
        most = len(left) - 1 - (len(wanted) - number)  # one question is left for each set to come
        taken = _nearest([(question, len(groups[question])) for question in left], count, most)
        left = [question for question in left if question not in taken]
        parts.append(taken)
    return [sorted(i for question in part for i in groups[question]) for part in (left, *parts)]


def _nearest(groups: Sequence[tuple[bytes, int]], wanted: int, most: int) -> set[bytes]:
    """Of (question, rows) one to `most` questions, the first that fit, near `wanted` rows."""
    taken: set[bytes] = set()
    missing = wanted
    for question, rows in groups:
        if missing == 0 or len(taken) == most:
            break
        if rows <= missing:
            taken.add(question)
            missing -= rows
    rest = [(rows, question) for question, rows in groups if question not in taken]
    rows, smallest = min(rest, key=lambda pair: pair[0])
    if not taken or (len(taken) < most and abs(rows - missing) < missing):
        taken.add(smallest)
    return taken


def warnings_of(arranged: Arranged[T]) -> tuple[str, ...]:
    """What was left out of which set, for people; repeats within a set are no fault."""
    return tuple(
        f"{count.rows} rows of data.{name} are left out: their questions stand in the rows that "
        f"judge it too ({count.exact} of them word for word)"
        for name, count in arranged.left_out.items()
    )
