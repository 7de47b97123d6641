import msgspec
import numpy as np
import pytest

from jobs import scores
from jobs.spec import Fit, Regression, Tier
from jobs.spec.metrics import of_scores

ASKED = Regression(
    dimensions=("risk", "tone"),
    weights={"risk": 3.0},
    tiers=(Tier(name="low", min=0), Tier(name="middle", min=4), Tier(name="high", min=7)),
)


def test_errors_are_in_the_units_of_the_scores():
    found = scores.score(
        np.array([[1.0, 2.0], [5.0, 6.0]]), np.array([[2.0, 2.0], [2.0, 6.0]]), ASKED
    )
    assert found["mae"] == pytest.approx(1.0)
    assert found["rmse"] == pytest.approx(np.sqrt(10 / 4))
    assert (found["mae/risk"], found["mae/tone"]) == (2.0, 0.0)
    assert found["rmse/risk"] == pytest.approx(np.sqrt(5.0))


def test_every_metric_is_one_that_a_gate_may_name():
    texts = np.array([[1.0, 1.0], [5.0, 5.0], [8.0, 8.0]])
    assert set(scores.score(texts, texts, ASKED)) == set(of_scores(ASKED))


def test_the_overall_score_is_weighted_and_cut_into_tiers():
    texts = np.array([[8.0, 0.0], [0.0, 8.0], [4.0, 4.0], [7.0, 7.0], [-1.0, -1.0]])
    assert scores.overall_of(texts, ASKED).tolist() == [6.0, 2.0, 4.0, 7.0, -1.0]
    assert scores.tiers_of(texts, ASKED).tolist() == [1, 0, 1, 2, 0]


def test_a_text_on_a_tier_s_bound_is_in_that_tier_in_32_bits_too():
    tiers = (Tier(name="low", min=0.0), Tier(name="high", min=0.7))
    asked = Regression(dimensions=("r",), high=1.0, tiers=tiers)
    wanted = np.array([[0.7]] * 3 + [[0.2]] * 7)
    for kind in (np.float32, np.float64):
        found = scores.score(np.where(wanted >= 0.7, 0.9, 0.1), wanted.astype(kind), asked)
        assert found["tier_accuracy"] == found["tier_recall/high"] == 1.0, kind


def test_the_rarest_tier_has_a_recall_of_its_own():
    wanted = np.array([[1.0, 1.0]] * 3 + [[8.0, 8.0]] * 2)
    predicted = np.array([[1.0, 1.0]] * 3 + [[8.0, 8.0], [2.0, 2.0]])
    found = scores.score(predicted, wanted, ASKED)
    assert found["tier_accuracy"] == pytest.approx(0.8)
    assert found["tier_recall/low"] == 1.0
    assert found["minority_recall"] == found["tier_recall/high"] == 0.5
    assert "tier_recall/middle" not in found  # nothing to recall


@pytest.mark.parametrize(
    ("train", "validation", "verdict"),
    [
        (1.0, 0.9, "underfits"),
        (1.0, 1.09, "underfits"),
        (1.0, 1.1, "good"),
        (0.23, 0.39, "high overfitting"),  # 69.6 %
        (1.0, 1.3, "moderate overfitting"),
        (1.0, 1.5, "high overfitting"),
        (0.0, 1.0, "high overfitting"),
    ],
)
def test_the_gap_has_a_verdict(train, validation, verdict):
    found = scores.fit(train, validation)
    assert found.verdict.startswith(verdict)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Fit) == found
    assert (found.gap is None) == (train == 0.0)
