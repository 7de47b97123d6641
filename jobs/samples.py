"""samples.jsonl: what was asked, what was wanted, what base and tuned model answered.

review.csv: some of them, for people to judge.
"""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobs.aside import write_aside


class Sample(msgspec.Struct, frozen=True):
    """One row of samples.jsonl; an answer that was not asked for is null."""

    question: str
    reference: str
    base: str | None
    tuned: str


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    write_aside(path, b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))


REVIEW_ROWS = 20
REVIEW_COLUMNS = ("question", "reference", "base", "tuned", "verdict", "note")
# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), the full-width forms
# that some fold to ASCII included.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_review(path: Path, samples: Sequence[Sample], seed: int) -> None:
    """A sheet of `REVIEW_ROWS` rows drawn by the seed, in the order of the samples.

    RFC 4180, in UTF-8 with its mark, without which Excel takes it for the local code page.
    """
    drawn = random.Random(seed).sample(range(len(samples)), min(REVIEW_ROWS, len(samples)))
    text = io.StringIO(newline="")
    sheet = csv.writer(text)
    sheet.writerow(REVIEW_COLUMNS)
    for i in sorted(drawn):
        row = samples[i]
        cells = (row.question, row.reference, row.base or "", row.tuned)
        sheet.writerow([*map(harmless, cells), "", ""])
    write_aside(path, text.getvalue().encode("utf-8-sig"))


def harmless(cell: str) -> str:
    """The text of a cell that no spreadsheet will compute: an apostrophe before a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA_STARTS) else cell
