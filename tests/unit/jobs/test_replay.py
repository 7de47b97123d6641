"""Which old rows are drawn into a continued run's mix."""

import pytest

from jobs.spec import draw, replayed


@pytest.mark.parametrize(("new", "share", "old"), [(80, 0.2, 20), (16, 1 / 3, 8), (3, 0.01, 0)])
def test_the_share_is_of_the_mix(new: int, share: float, old: int) -> None:
    assert replayed(new, share) == old


def test_known_rows_and_repetitions_are_left_out() -> None:
    old = ["a", "b", "a", "c", "d", "b"]
    keys = [word.encode() for word in old]
    assert draw(old, keys, known=[b"c"], count=9, seed=1) == ["a", "b", "d"]
    assert draw(old, keys, known=[b"a", b"b", b"c", b"d"], count=9, seed=1) == []


def test_the_seed_draws_in_the_file_s_order() -> None:
    old = list(range(100))
    keys = [str(i).encode() for i in old]
    drawn = draw(old, keys, known=(), count=10, seed=3)
    assert drawn == sorted(drawn) == draw(old, keys, known=(), count=10, seed=3)
    assert drawn != draw(old, keys, known=(), count=10, seed=4)
