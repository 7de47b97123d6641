"""Tokens per character and per row, from what a tokenizer counted."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import Model
from launcher import tokens
from launcher.executors import environment
from launcher.tokens import fitted
from tests.unit.launcher.planning import DATA, JOB

CHARACTERS = st.lists(st.integers(1, 10_000), min_size=2, max_size=50, unique=True)


@given(characters=CHARACTERS, slope=st.floats(0.01, 1.5), intercept=st.floats(0.0, 200.0))
def test_a_line_is_found_again(characters, slope, intercept) -> None:
    rows = [(x, slope * x + intercept) for x in characters]
    found = fitted(rows)
    assert found[0] * 5000 + found[1] == pytest.approx(slope * 5000 + intercept, rel=1e-3)


@pytest.mark.parametrize(
    "rows", [[(100, 30)], [(100, 30), (100, 34)], [(100, 60), (200, 40)], [(10, 2), (20, 8)]]
)
def test_what_cannot_be_told_apart_keeps_the_total(rows) -> None:
    slope, intercept = fitted(rows)
    assert intercept == 0
    assert slope * sum(x for x, _ in rows) == pytest.approx(sum(y for _, y in rows))


@pytest.mark.parametrize("kept", ['{"rows": []}', '{"rows": [[1', ""])
def test_a_plan_does_without_a_count_that_cannot_be_had(tmp_path, monkeypatch, kept) -> None:
    """No place to count in, and a kept file that is nothing."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text("{}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    environment.folder().mkdir(parents=True)
    (environment.folder() / "ready").touch()
    assert environment.is_ready()
    (tmp_path / "cache" / "loralift" / "tokens").write_text(kept)  # a file in the folder's place
    job = msgspec.structs.replace(JOB, model=Model(id=str(model)))
    assert tokens.counted(job, DATA) == DATA
