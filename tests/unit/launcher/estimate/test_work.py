"""Tokens and steps of a job's data."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import Data, JobSpec, Model, ResolvedSpec, ResolvedTrain
from launcher.estimate.work import mean_longest, work_of
from launcher.inputs.scanning import scan_data
from launcher.types import DataFacts
from tests.unit.launcher.plans import DATA


def spec_with(**train: object) -> ResolvedSpec:
    return ResolvedSpec(
        model=Model(id="a/b"),
        data=Data(train="/rows.jsonl"),
        run_id="r",
        strategy="lora",
        dtype="bf16",
        device="cuda",
        quantization=None,
        train=msgspec.convert({"packing": False, "epochs": 1.0, **train}, ResolvedTrain),
    )


def rows_of(*characters: int, rows: int = 1000) -> DataFacts:
    """Rows in groups of these mean lengths, a token a character."""
    return msgspec.structs.replace(
        DATA,
        train_rows=rows,
        train_characters=rows * sum(characters) // len(characters),
        row_characters=characters,
        tokens_per_character=1.0,
        template_tokens_per_row=0,
    )


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_the_longest_of_some_even_lengths(rows: int) -> None:
    even = rows_of(*range(5, 1000, 10))
    exact = 1000 * rows / (rows + 1)  # the mean of the greatest of n draws from 0 to 1000
    assert mean_longest(spec_with(), even, rows) == pytest.approx(exact, rel=0.001)


def test_rows_are_cut_one_by_one_not_on_average() -> None:
    mixed = rows_of(*[100] * 50, *[10_000] * 50)
    assert work_of(spec_with(seq_len=1000), mixed).train_tokens == pytest.approx(550_000, rel=0.02)


def test_padding_is_counted_where_rows_go_together_unpacked() -> None:
    mixed = rows_of(*[100] * 50, *[1000] * 50)
    alone = work_of(spec_with(seq_len=1000), mixed)
    together = work_of(spec_with(seq_len=1000, micro_batch=4, effective_batch=16), mixed)
    assert alone.padded_tokens == alone.train_tokens == together.train_tokens
    # all four are short in one of sixteen micro-batches
    assert together.padded_tokens == pytest.approx(1000 * (1000 - 900 / 16), rel=0.02)
    packed = spec_with(seq_len=1000, micro_batch=4, effective_batch=16, packing=True)
    assert work_of(packed, mixed).padded_tokens == alone.train_tokens


def test_a_question_is_as_long_as_a_judged_row_and_is_not_cut() -> None:
    held_out = msgspec.structs.replace(
        rows_of(100), validation_rows=10, validation_characters=20_000, golden_rows=7
    )
    tested = msgspec.structs.replace(held_out, test_rows=10, test_characters=30_000)
    none = msgspec.structs.replace(held_out, validation_rows=0, validation_characters=0)
    lengths = [work_of(spec_with(seq_len=512), d).question_tokens for d in (held_out, tested, none)]
    assert lengths == [2000, 3000, 100]


@given(
    characters=st.lists(st.integers(1, 5000), min_size=2, max_size=40).map(sorted),
    rows=st.integers(1, 64),
)
def test_the_mean_longest_grows_with_the_rows_and_never_passes_the_longest(characters, rows):
    data, spec = rows_of(*characters), spec_with(seq_len=2048)
    few, more = (mean_longest(spec, data, n) for n in (rows, rows + 1))
    assert few <= more * (1 + 1e-9)
    assert more <= min(2048, characters[-1]) + 1e-6


def test_a_few_long_rows_among_many_count_whole(tmp_path: Path) -> None:
    lengths = [100] * 970 + [8000] * 30
    facts = scan_data(completions(tmp_path / "rows.jsonl", lengths))
    spec = spec_with(seq_len=10_000)
    whole = facts.train_characters * facts.tokens_per_character
    whole += facts.train_rows * facts.template_tokens_per_row
    assert work_of(spec, facts).train_tokens == pytest.approx(whole, rel=1e-4)


def test_replayed_rows_have_lengths_of_their_own(tmp_path: Path) -> None:
    job = completions(tmp_path / "new.jsonl", [100] * 1000)
    completions(tmp_path / "old.jsonl", [7000] * 500)
    replay = {"replay": str(tmp_path / "old.jsonl"), "replay_share": 0.5}
    mixed = msgspec.structs.replace(job, data=msgspec.structs.replace(job.data, **replay))
    facts = scan_data(mixed)
    spec = spec_with(seq_len=10_000)
    assert facts.replay_rows == 500
    new = work_of(spec, scan_data(job)).train_tokens
    old = 500 * (7000 * facts.tokens_per_character + facts.template_tokens_per_row)
    assert work_of(spec, facts).train_tokens == pytest.approx(new + old, rel=0.01)


def completions(path: Path, lengths: list[int]) -> JobSpec:
    """A file of rows as long as these, each with a question of its own."""
    rows = [
        {"prompt": f"{path.stem} {i} ".ljust(length - 2, "x"), "completion": "ok"}
        for i, length in enumerate(lengths)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JobSpec(model=Model(id="a/b"), data=Data(train=str(path)))
