"""samples.jsonl: what was asked, what was wanted, what base and tuned model answered."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobs.outcome import write_aside


class Sample(msgspec.Struct, frozen=True):
    """One row of samples.jsonl; an answer that was not asked for is null."""

    question: str
    reference: str
    base: str | None
    tuned: str


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    write_aside(path, b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))
