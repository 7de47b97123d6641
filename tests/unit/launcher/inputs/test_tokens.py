"""Tokens per character and per row, from what a tokenizer counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.inputs.tokens import fitted

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
