import numpy as np
import pytest

from jobs.heads import ridge


def test_a_probe_finds_a_linear_rule_and_its_error_is_that_of_rows_left_out():
    draw = np.random.default_rng(1)
    features = draw.normal(size=(80, 10))
    wanted = features @ draw.normal(size=(10, 3)) + 0.1 * draw.normal(size=(80, 3))
    weights, error = ridge(features, wanted, ridges=[0.01])
    assert weights.shape == (10, 3)
    left_out = []
    penalty = 0.01 * np.square(features).mean()
    for i in range(80):
        kept = np.arange(80) != i
        a, b = features[kept], wanted[kept]
        solved = np.linalg.solve(a.T @ a + penalty * np.eye(10), a.T @ b)
        left_out.append(np.abs(features[i] @ solved - wanted[i]))
    assert error == pytest.approx(np.mean(left_out), rel=1e-6)


def test_noise_gets_the_strongest_ridge():
    draw = np.random.default_rng(2)
    features, wanted = draw.normal(size=(30, 60)), draw.normal(size=(30, 2))
    weights, _ = ridge(features, wanted)
    assert np.abs(weights).max() < 1e-2
