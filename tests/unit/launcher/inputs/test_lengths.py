import json
from pathlib import Path

import msgspec
import pytest

from jobs.spec import Data, JobSpec, Model, Regression, Train
from launcher import api, recipes
from launcher.inputs.lengths import warnings_of
from launcher.inputs.scanning import assumed_data, scan_data
from launcher.recipes import Flags
from launcher.running.clock import utc_now
from launcher.types import DataFacts

LIMIT = 100  # tokens


def job(**changes: object) -> JobSpec:
    made = JobSpec(
        model=Model(id="a/b"),
        data=Data(train="rows.jsonl", validation="held.jsonl"),
        train=Train(seq_len=LIMIT),
    )
    return msgspec.structs.replace(made, **changes)


def facts(*characters: float, rows: int | None = None, **changes: object) -> DataFacts:
    """Of rows, or groups of rows, of so many characters."""
    found = DataFacts(
        train_path="rows.jsonl",
        validation_path="held.jsonl",
        train_rows=rows or len(characters),
        validation_rows=1,
        train_characters=0,
        longest_characters=round(max(characters)),
        row_characters=characters,
        validation_characters=10,
        sha256="0" * 64,
    )
    return msgspec.structs.replace(found, **changes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # 12 tokens are the template's; 0.25 are assumed for each character
        (facts(40, 400, 552), ""),  # 150 tokens: by another tokenizer these may be 100
        (
            facts(40, 400, 553),
            "about 1 of 3 training rows are clearly longer than train.seq_len, 100 ",
        ),
        (facts(40, 800, 9000, rows=3000), "about 2,000 of 3,000 training rows"),
        (facts(40, 41, 42, rows=3000, longest_characters=9000), "about 1 of 3,000 training rows"),
        (facts(40, longest_judged_characters=9000), "held-out rows are clearly longer"),
        (facts(40, 196_007), "196,007 characters, about 49,014 tokens (0.25 a character, assumed)"),
        (facts(40, 196, tokens_per_character=0.5, tokenizer_rows=2), ""),  # 110 tokens
        (facts(40, 197, tokens_per_character=0.5, tokenizer_rows=2), "(0.5 a character, counted)"),
    ],
)
def test_rows_that_are_clearly_too_long_are_told(data: DataFacts, said: str) -> None:
    found = warnings_of(job(), data)
    assert len(found) == bool(said)
    assert all(said in warning for warning in found)


def test_golden_questions_are_not_cut() -> None:
    golden = msgspec.structs.replace(job().eval, golden="golden.jsonl")
    assert not warnings_of(job(eval=golden), facts(40, longest_judged_characters=9000))


def test_rows_that_nobody_has_yet_are_not_warned_of() -> None:
    assumed = assumed_data(job(train=Train(seq_len=2048)), rows=10)
    assert not warnings_of(job(), assumed)


def test_what_happens_is_the_task_s_own() -> None:
    (sft,) = warnings_of(job(), facts(9000))
    assert "a row that has nothing left to learn stops the job" in sft
    student = job(task="regression", regression=Regression(dimensions=("risk",)))
    (scored,) = warnings_of(student, facts(9000))
    assert "the student reads no more of a text than that" in scored


def test_the_shipped_sample_is_not_warned_of() -> None:
    sample = recipes.load("sample", Flags()).job
    assert not warnings_of(sample, scan_data(sample))


def test_a_plan_says_it_and_a_longer_seq_len_is_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # no tokenizer at hand
    rows = ({"prompt": f"{n} " + "word " * 4000, "completion": "a"} for n in range(40))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def warned(*sets: str) -> list[str]:
        flags = Flags(model="Qwen/Qwen2.5-7B", data="rows.jsonl", sets=sets)
        made = api.plan(None, flags, run_id="long", now=utc_now(), advise=False)
        return [warning for warning in made.warnings if "train.seq_len" in warning]

    (warning,) = warned()
    assert warning.startswith(
        "about 32 of 32 training rows are clearly longer than train.seq_len, 2,048 "
    )
    assert not warned("train.seq_len=8192")
