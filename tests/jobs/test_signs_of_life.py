"""While training the watchdog waits for steps; what takes long beside them is seen too."""

from types import SimpleNamespace

import pytest

from jobs import callbacks, checkpoint, evaluate, layout, sft
from jobs.encode import Question
from jobs.progress import Progress
from jobs.ranks import Ranks


class Counted(Progress):
    touches = 0

    def touch(self):
        super().touch()
        self.touches += 1


@pytest.fixture
def progress(tmp_path):
    counted = Counted(tmp_path / layout.METRICS, keep_to_step=0)
    yield counted
    counted.close()


def test_each_batch_of_answers_that_an_epoch_is_chosen_by_is_one(progress, monkeypatch):
    seen = []

    def answer(model, tokenizer, asked):
        seen.append(progress.touches)
        return [question.text for question in asked]

    monkeypatch.setattr(evaluate, "_answer", answer)
    monkeypatch.setattr(evaluate, "greedy", lambda *_: None)
    model = SimpleNamespace(
        generation_config=None, training=True, eval=lambda: None, train=lambda mode: None
    )
    job = SimpleNamespace(
        train=SimpleNamespace(select_by="length"), eval=SimpleNamespace(batch=2), gates=[]
    )
    asked = [Question(text=t, prompt=t, reference=t, templated=False) for t in "abcde"]
    rules = SimpleNamespace(
        measure=lambda _, answers: SimpleNamespace(values={"length": float(len(answers))})
    )
    attempt = SimpleNamespace(job=job, progress=progress)
    found = sft.chosen_metric(attempt, model, SimpleNamespace(padding_side="right"), asked, rules)
    assert found == {"length": 5.0}
    assert len(seen) == 3
    assert 0 < seen[1] < seen[2] < progress.touches


def test_a_checkpoint_is_one_before_it_is_hashed_and_after(progress, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(checkpoint, "mark_complete", lambda folder: seen.append(progress.touches))
    whole = callbacks.WholeCheckpoints(progress, tmp_path, every_steps=5, kept=1, ranks=Ranks())
    whole.on_save(None, SimpleNamespace(global_step=5, best_global_step=None), None)
    assert seen == [1]
    assert progress.touches == 2
