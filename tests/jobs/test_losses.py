from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jobs.losses import keep, known, mean, measured
from jobs.outcome import Diverged
from jobs.trainer import by_row


def test_a_batch_gives_the_same_rows_padded_and_padding_free():
    """Two rows of 3 and 4 tokens; the first token of a row is never predicted."""
    padded = SimpleNamespace(
        log_probs=torch.tensor([[-1.0, -2.0, 0.0], [0.0, -4.0, -5.0]]),
        label_mask=torch.tensor([[True, True, False], [False, True, True]]),
    )
    flat = SimpleNamespace(
        log_probs=torch.tensor([[-1.0, -2.0, 0.0, 0.0, -4.0, -5.0]]),
        label_mask=torch.tensor([[True, True, False, False, True, True]]),
    )
    wanted = [[3.0, 2.0], [9.0, 2.0]]
    assert by_row(padded, None).tolist() == wanted
    assert by_row(flat, torch.tensor([[0, 1, 2, 0, 1, 2, 3]])).tolist() == wanted


def test_loss_is_by_token_and_not_by_row():
    rows = np.array([[10.0, 10.0], [0.0, 90.0]])
    assert mean(rows) == 0.1
    found = measured(np.tile(rows, (20, 1)), seed=17)
    assert found.values["loss"] == pytest.approx(0.1)
    assert found.values["perplexity"] == pytest.approx(np.exp(0.1))
    assert found.intervals["loss"].low < 0.1 < found.intervals["loss"].high
    assert found.intervals["perplexity"].high == pytest.approx(np.exp(found.intervals["loss"].high))


def test_a_loss_that_is_no_number_ends_the_job():
    with pytest.raises(Diverged):
        measured(np.array([[float("nan"), 3.0]]), seed=17)


def test_what_was_kept_is_known_again_and_a_torn_file_is_not(tmp_path):
    rows, path = np.array([[1.25, 2.0], [0.1, 3.0]]), tmp_path / "losses.json"
    assert known(path, 2) is None
    keep(path, rows)
    assert known(path, 2).tolist() == rows.tolist()
    assert known(path, 3) is None, "of other rows"
    path.write_text("[[1, 2")
    assert known(path, 2) is None
