from pathlib import Path

import pytest

from jobs.spec.check import DataCheck
from launcher.checking.data_check import data_check, told
from launcher.errors import BadInput
from launcher.executors.environment import PYTHON_VARIABLE
from launcher.types import Budget
from tests.unit.launcher.plans import local, planned


@pytest.fixture
def spec():
    chosen = planned([local("RTX4090", 23)], Budget()).chosen
    assert chosen is not None
    return chosen.spec


def test_sound_rows_are_counted_for_people() -> None:
    found = told(
        DataCheck(
            rows={"train": 1900, "validation": 90}, longest_tokens=4096, seq_len=2048, cut=7,
            pad_token="<unk>", own_pad_token=None,
        )
    )  # fmt: skip
    assert found.state == "ok"
    assert found.found == (
        "1,900 train + 90 validation rows teach something; the longest has 4,096 of 2,048 tokens, "
        "7 are cut; no pad token, <unk> serves"
    )


def test_a_doubt_is_no_failure_and_stands_beside_what_is_sound() -> None:
    found = told(DataCheck(rows={"train": 9}, own_pad_token="<pad>", doubts=("8 questions: a",)))
    assert (found.state, found.next) == ("ok", "8 questions: a")


def test_the_first_problem_stands_for_all_and_says_what_to_do() -> None:
    first = "rows.jsonl:3: no supervised tokens after cutting 99 tokens to seq_len 64"
    found = told(DataCheck(refused=12, problems=(first, "b", "c")))
    assert (found.state, found.outside) == ("failed", False)
    assert found.found == f"{first} (and 11 more)"
    assert "train.seq_len" in found.next
    found = told(DataCheck(refused=1, problems=("the tokenizer has no end token",)))
    assert (found.found, found.next) == ("the tokenizer has no end token", "")


def test_what_was_not_looked_at_is_skipped_and_says_why() -> None:
    found = told(DataCheck(skipped="the tokenizer of a/b is not in the Hub's cache"))
    assert (found.state, found.found) == (
        "skipped", "the tokenizer of a/b is not in the Hub's cache"
    )  # fmt: skip


def test_without_a_training_environment_it_is_skipped(spec, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    found = data_check(spec)
    assert (found.state, found.found) == ("skipped", "the training environment is not here")


def test_an_interpreter_that_has_nothing_to_train_with_is_unknown(spec, monkeypatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/usr/bin/false")
    found = data_check(spec)
    assert (found.state, found.found) == ("unknown", "jobs.check broke off: no output")
    monkeypatch.setenv(PYTHON_VARIABLE, "no-such-python")
    with pytest.raises(BadInput, match="no such interpreter"):
        data_check(spec)
