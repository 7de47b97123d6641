"""When the model's tokenizer is asked, and what its answers are good for."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs.spec import JobSpec, Model
from launcher.executors import environment
from launcher.inputs import tokens
from tests.unit.launcher.plans import DATA, JOB

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    """Its model is a folder with a tokenizer, and the cache is the test's own."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return msgspec.structs.replace(JOB, model=Model(id=str(model)))


def an_environment(asked: Path, ending: str) -> None:
    """One whose interpreter notes that it was asked, and then does what `ending` says."""
    python = environment.folder() / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho asked >> {asked}\n{ending}\n")
    python.chmod(0o755)
    (environment.folder() / "ready").touch()


def test_a_count_that_failed_is_said_at_each_plan_and_tried_once_a_day(tmp_path, job) -> None:
    asked = tmp_path / "asked"
    an_environment(asked, "echo Traceback >&2; echo OSError: not a tokenizer >&2; exit 1")
    for hours, times in ((0, 1), (1, 1), (23, 1), (25, 2), (26, 2)):
        found = tokens.counted(job, DATA, NOON + timedelta(hours=hours))
        assert (found.tokenizer_rows, found.tokens_per_character) == (0, 0.25)
        (warning,) = found.warnings
        assert warning.endswith("tokens are assumed: OSError: not a tokenizer")
        assert asked.read_text() == "asked\n" * times


@pytest.mark.parametrize("ending", ["echo '{\"rows\": []}'", "echo Failed.", "kill -9 $$"])
def test_an_answer_without_rows_is_a_failure(tmp_path, job, ending) -> None:
    an_environment(tmp_path / "asked", ending)
    (warning,) = tokens.counted(job, DATA, NOON).warnings
    assert "jobs.count_tokens ended with" in warning


def test_an_interpreter_that_is_none_is_a_failure(tmp_path, job) -> None:
    an_environment(tmp_path / "asked", "")
    (environment.folder() / "bin" / "python").chmod(0o644)
    (warning,) = tokens.counted(job, DATA, NOON).warnings
    assert "cannot start" in warning


def test_another_model_folder_or_environment_is_asked_at_once(tmp_path, job, monkeypatch) -> None:
    asked = tmp_path / "asked"
    an_environment(asked, "exit 1")
    tokens.counted(job, DATA, NOON)
    (Path(job.model.id) / "config.json").write_text("{}")
    tokens.counted(job, DATA, NOON)
    assert asked.read_text() == "asked\n" * 2
    monkeypatch.setattr(sys, "version", "another")
    an_environment(asked, "echo '{\"rows\": [[100, 50], [200, 90]]}'")
    found = tokens.counted(job, DATA, NOON)
    assert (found.tokenizer_rows, found.warnings) == (2, ())
    assert tokens.counted(job, DATA, NOON + timedelta(days=30)) == found
    assert asked.read_text() == "asked\n" * 3


@pytest.mark.parametrize("kept", ['{"rows": []}', '{"rows": [[1', ""])
def test_a_plan_does_without_a_count_that_cannot_be_had(tmp_path, job, kept) -> None:
    """No place to count in, and a kept file that is nothing."""
    an_environment(tmp_path / "asked", "exit 1")
    assert environment.is_ready()
    (tmp_path / "cache" / "loralift" / "tokens").write_text(kept)  # a file in the folder's place
    assert tokens.counted(job, DATA, NOON) == DATA
