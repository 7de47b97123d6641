import numpy as np
import pytest

from jobs.intervals import bootstrap, mean, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # scipy 1.17.1: binomtest(hits, n).proportion_ci(0.95, method="wilson")
        (37, 40, 0.8013577, 0.9741640),
        (40, 40, 0.9123784, 1.0),
        (0, 10, 0.0, 0.2775328),
        (1, 2, 0.0945312, 0.9054688),
    ],
)
def test_wilsons_interval(hits, n, low, high):
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert (found.n, found.method) == (n, "Wilson, 95 %")


def test_a_share_of_nothing_has_none():
    with pytest.raises(ValueError, match="nothing"):
        wilson(0, 0)


def test_the_bootstrap_of_a_mean_covers_it_as_the_normal_law_says():
    rows = np.random.default_rng(0).normal(5.0, 2.0, (400, 1))
    (found,) = bootstrap(rows, mean, seed=17)
    assert found.low < rows.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * rows.std() / 20, rel=0.1)
    assert found.n == 400
    assert "1,000 resamples" in found.method


def test_the_same_seed_draws_the_same_and_another_does_not():
    rows = np.arange(30.0)[:, None]
    assert bootstrap(rows, mean, seed=1) == bootstrap(rows, mean, seed=1)
    assert bootstrap(rows, mean, seed=1) != bootstrap(rows, mean, seed=2)


def test_rows_are_drawn_whole():
    """A ratio of two columns that is the same in every row has no spread."""
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    (found,) = bootstrap(rows, lambda r: r[:, :1].sum(axis=0) / r[:, 1].sum(), seed=3)
    assert (found.low, found.high) == (0.5, 0.5)
