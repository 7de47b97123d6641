"""How much there is to do: a job's data in tokens and steps. Pure."""

from functools import cache
from itertools import pairwise
from math import ceil

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.types import DataFacts


class Work(Struct, frozen=True, kw_only=True):
    """How much there is to do. The judged rows are those of the result: test, else validation."""

    train_rows: int
    train_tokens: int  # of all epochs
    padded_tokens: int  # the same with the padding that rows of one micro-batch get
    validation_tokens: int
    validation_rows: int
    judged_tokens: int
    judged_rows: int
    micro_steps: int
    golden_rows: int = 0  # asked instead of the validation rows
    question_tokens: float  # of one that is asked, on average; its row's answer counted in


def work_of(spec: ResolvedSpec, data: DataFacts) -> Work:
    """Tokens and steps of all epochs: characters × tokens per character plus the template's.

    A row counts at most `seq_len` tokens. Without packing, rows of a micro-batch are as long as its
    longest: they come in no order of length.
    """
    train_rows = data.train_rows
    micro_batch = spec.train.rows_at_once
    train_tokens = train_rows * mean_longest(spec, data, 1)
    padded = train_rows * mean_longest(spec, data, 1 if spec.packs else micro_batch)
    validation_tokens = row_tokens(spec, data, data.validation_rows, data.validation_characters)
    test_tokens = row_tokens(spec, data, data.test_rows, data.test_characters)
    length = spec.train.seq_len if spec.packs else 1
    sequences = ceil(train_tokens / length) if spec.packs else train_rows
    epochs = spec.train.epochs
    return Work(
        train_rows=train_rows,
        train_tokens=round(train_tokens * epochs),
        padded_tokens=round(padded * epochs),
        validation_tokens=validation_tokens,
        validation_rows=data.validation_rows,
        judged_tokens=test_tokens or validation_tokens,
        judged_rows=data.test_rows or data.validation_rows,
        golden_rows=data.golden_rows,
        question_tokens=_question_tokens(data),
        micro_steps=max(1, ceil(ceil(sequences / micro_batch) * epochs)),
    )


def _question_tokens(data: DataFacts) -> float:
    """Of a judged row, whole: how much of it is the answer is not known, and nothing is cut.

    Assumption: golden rows, whose lengths are not known either, are as long.
    """
    sets = (
        (data.test_rows, data.test_characters),
        (data.validation_rows, data.validation_characters),
        (data.train_rows, data.train_characters),
    )
    rows, characters = next(known for known in sets if known[0])
    return max(1.0, characters / rows * data.tokens_per_character + data.template_tokens_per_row)


def mean_longest(spec: ResolvedSpec, data: DataFacts, rows: int) -> float:
    """Tokens of the longest among `rows` training rows drawn at random, on average.

    The mean of the greatest of n draws is the integral of Q(u) × n u^(n - 1) over u from 0 to 1,
    Q the quantile function: here even within the groups that are known.
    """
    known, count = data.row_characters, data.train_rows
    if not known:
        return row_tokens(spec, data, count, data.train_characters) / count
    tokens = data.tokens_per_character, data.template_tokens_per_row
    return _mean_longest(known, count, *tokens, spec.train.seq_len, rows)


@cache  # asked for the same rows at every card
def _mean_longest(
    known: tuple[float, ...], count: int, per_character: float, per_row: float, most: int, rows: int
) -> float:
    ends = [count * (i + 1) // len(known) / count for i in range(len(known))]
    shares = [end**rows - start**rows for start, end in pairwise([0.0, *ends])]
    lengths = (min(characters * per_character + per_row, most) for characters in known)
    return sum(length * share for length, share in zip(lengths, shares, strict=True))


def row_tokens(spec: ResolvedSpec, data: DataFacts, rows: int, characters: int) -> int:
    """Estimated tokens of `rows` rows that hold `characters` together."""
    estimate = characters * data.tokens_per_character + rows * data.template_tokens_per_row
    return round(min(estimate, rows * spec.train.seq_len))
