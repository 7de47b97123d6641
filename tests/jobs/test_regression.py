"""Students that score texts: trained, kept at their best epoch, loaded again, asked."""

import json
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jobs import layout
from jobs.checkpoint import step_of
from jobs.exit_codes import EXIT_CODES
from jobs.outcome import BadInput
from jobs.progress import read_records
from jobs.spec import EvalRecord, Regression
from tests.jobs.short_job import (
    ROOT,
    SAMPLE,
    Forked,
    curve,
    finish,
    holding,
    start,
    wait_for_step,
)

pytestmark = pytest.mark.filterwarnings("default")

DIMENSIONS = ("length", "claims", "leave")
WORDS = ["policy", "claim", "leave", "travel", "laptop", "badge", "rule", "day", "desk", "team"]


def write_rows(path, count, seed):
    """Texts of random words, scored by what can be counted in them."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        words = [draw.choice(WORDS) for _ in range(draw.randint(3, 20))]
        scores = {
            "length": len(words) / 2,
            "claims": min(10.0, 4.0 * words.count("claim")),
            "leave": 10.0 if "leave" in words else 0.0,
        }
        rows.append({"id": f"t{i}", "text": " ".join(words), "scores": scores})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def write_job(folder, **changes):
    folder.mkdir()
    write_rows(folder / "rows.jsonl", 150, seed=1)
    spec = {
        "run_id": folder.name,
        "task": "regression",
        "regression": {
            "dimensions": DIMENSIONS,
            "tiers": [{"name": "low", "min": 0}, {"name": "high", "min": 4}],
        },
        "model": {"id": str(SAMPLE / "model"), "init": "random"},
        "data": {"train": "rows.jsonl"},
        "strategy": "qlora",
        "quantization": {"kind": "nf4", "double": True},
        "dtype": "fp32",
        "device": "cpu",
        "lora": {"dropout": 0.0},
        "train": {
            "epochs": 2,
            "learning_rate": 2e-3,
            "warmup_steps": 5,
            "seq_len": 64,
            "effective_batch": 4,
            "micro_batch": 2,
            "packing": False,
            "activation_checkpointing": False,
            "checkpoint_every_steps": 20,
            "select_by": "mae",
        },
        "gates": [{"metric": "mae", "max": 2.0}],
    }
    for key, value in changes.items():
        spec[key] = spec[key] | value if isinstance(value, dict) and key in spec else value
    (folder / layout.SPEC).write_text(json.dumps(spec))
    return folder


def evaluations(folder):
    records = read_records(folder / layout.METRICS)
    return [r for r in records if isinstance(r, EvalRecord) and r.epoch is not None]


def predict(run, file, *options):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jobs.predict", str(run), str(file), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = write_job(tmp_path_factory.mktemp("runs") / "student")
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    return folder, found


def test_a_student_beats_the_mean_on_rows_held_out(trained):
    folder, found = trained
    assert found.evaluated_on == "test"
    assert found.metrics["tuned"]["mae"] < 0.8 * found.metrics["constant"]["mae"]
    assert set(found.metrics) == {"tuned", "constant", "validation"}
    names = {f"{m}/{d}" for m in ("mae", "rmse") for d in DIMENSIONS}
    assert names | {"tier_accuracy", "minority_recall"} <= set(found.metrics["tuned"])
    assert found.gates[0].metric == "mae"
    assert found.gates[0].value == found.metrics["tuned"]["mae"]
    assert found.fit.validation == pytest.approx(found.metrics["validation"]["mae"])
    samples = (folder / layout.SAMPLES).read_text().splitlines()
    assert len(samples) == 15


def test_every_epoch_is_measured_and_the_head_is_kept_whole(trained):
    folder, found = trained
    assert [round(r.epoch) for r in evaluations(folder)] == [1, 2]
    assert found.parameters_trainable == 3 * 7 * 16 * (256 + 256) + 3 * 256
    best = min(evaluations(folder), key=lambda r: r.metrics["mae"])
    assert found.best_step == best.step
    assert found.metrics["validation"]["mae"] == pytest.approx(best.metrics["mae"], abs=1e-6)


def test_a_reader_that_has_had_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    said = "from jobs.predict import put; put((b'line\\n' for _ in range(100_000)), None)"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", said],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=600,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_loaded_again_it_scores_what_was_measured(trained, tmp_path):
    """Quantised as in training, cast as in training; so exact, but for the order of sums."""
    folder, _ = trained
    samples = [json.loads(line) for line in (folder / layout.SAMPLES).read_text().splitlines()]
    asked = tmp_path / "asked.jsonl"
    asked.write_text(
        "".join(json.dumps({"id": i, "text": s["question"]}) + "\n" for i, s in enumerate(samples))
    )
    done, answers = predict(folder, asked, "--batch", "4", "--summary", str(tmp_path / "s.json"))
    assert done.returncode == 0, done.stderr
    assert [answer["id"] for answer in answers] == list(range(len(samples)))
    for sample, answer in zip(samples, answers, strict=True):
        assert answer["scores"] == pytest.approx(json.loads(sample["tuned"]), abs=2e-4)
        assert answer["overall"] == pytest.approx(
            np.mean(list(answer["scores"].values())), abs=1e-3
        )
        assert answer["tier"] == ("high" if answer["overall"] >= 4 else "low")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["texts"] == summary["latency_texts"] == len(samples)
    assert 0 < summary["latency_p50_seconds"] <= summary["latency_p95_seconds"]
    assert summary["tokens"] > 3 * summary["texts"]


def test_the_best_epoch_is_kept_when_it_is_not_the_last(tmp_path):
    """A rate that ruins the student after its first epoch: what is saved is the first."""
    folder = write_job(
        tmp_path / "worse", train={"epochs": 3, "learning_rate": 0.03, "schedule": "constant"}
    )
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    by_step = {r.step: r.metrics["mae"] for r in evaluations(folder)}
    assert found.best_step == min(by_step, key=by_step.get)
    assert found.best_step < max(by_step) == found.steps, by_step
    assert found.metrics["validation"]["mae"] == pytest.approx(by_step[found.best_step], abs=1e-5)
    kept = {step_of(p) for p in (folder / layout.CHECKPOINTS).iterdir()}
    assert found.best_step in kept  # though two newer ones were written


def test_it_ends_when_no_epoch_is_better_any_more(tmp_path):
    folder = write_job(
        tmp_path / "patient",
        train={"epochs": 8, "learning_rate": 0.03, "schedule": "constant", "patience": 1},
    )
    code, before = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    seen = [r.metrics["mae"] for r in evaluations(folder)]
    assert len(seen) < 8
    assert seen[-1] >= min(seen[:-1])

    lines = curve(folder)
    (folder / layout.RESULT).unlink()  # as where the machine went after the training
    code, again = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert (again.steps, again.best_step) == (before.steps, before.best_step)
    assert [r.metrics["mae"] for r in evaluations(folder)] == seen
    assert curve(folder) == lines
    assert again.metrics == before.metrics


def test_accumulated_batches_train_like_whole_ones(tmp_path):
    """The loss is a mean over a micro-batch: two of two must count like one of four."""
    curves = []
    for micro in (4, 2):
        changes = {"epochs": 1, "micro_batch": micro, "select_by": None}
        folder = write_job(
            tmp_path / f"micro{micro}", strategy="lora", quantization=None, train=changes
        )
        code, _ = finish(folder)
        assert code == 0, (folder / layout.LOG).read_text()
        curves.append(np.array([row[3] for row in curve(folder)]))  # gradient norms
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


def test_killed_and_started_again_the_student_draws_the_same_curve(trained, tmp_path):
    whole, before = trained
    folder = write_job(tmp_path / "killed")
    process = Forked(folder, holding(37))
    wait_for_step(folder, 37, process)  # past the first epoch, which may be the best
    process.kill()
    process.wait()
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert found.resumed_from_step > 0
    assert curve(folder) == curve(whole)
    assert found.best_step == before.best_step
    assert found.metrics == before.metrics
    assert found.tokens == before.tokens


STOPPED_IN_MID_EPOCH = """
import os, signal
from jobs.stop import Stop
own, looks = Stop.look, []
def look(self):
    looks.append(1)
    if len(looks) == 37:
        os.kill(os.getpid(), signal.SIGTERM)
    own(self)
Stop.look = look
"""
KILLED_IN_THE_EVALUATION = """
import os
from jobs.callbacks import Epochs
def on_prediction_step(self, args, state, control, **_):
    if self._training and state.global_step == 30:
        os._exit(137)
Epochs.on_prediction_step = on_prediction_step
"""


@pytest.mark.parametrize(
    ("before", "code"),
    [(STOPPED_IN_MID_EPOCH, EXIT_CODES["CANCELLED"]), (KILLED_IN_THE_EVALUATION, 137)],
    ids=["stopped in mid-epoch", "killed in the evaluation"],
)
def test_gone_on_with_it_has_one_evaluation_of_every_epoch(trained, tmp_path, before, code):
    """As the run that nothing disturbed, and no other epoch is the best."""
    whole, undisturbed = trained
    folder = write_job(tmp_path / "disturbed", train={"checkpoint_every_steps": 15})
    assert Forked(folder, before).wait(timeout=600) == code
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    wanted = [(r.step, r.loss, r.metrics) for r in evaluations(whole)]
    assert [(r.step, r.loss, r.metrics) for r in evaluations(folder)] == wanted
    assert found.best_step == undisturbed.best_step
    assert found.metrics == undisturbed.metrics


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"regression": {"dimensions": ["length", "depth"]}}, "rows.jsonl:1: no score for depth"),
        ({"regression": {"high": 2.0}}, "outside 0 to 2"),
        ({"train": {"select_by": "accuracy"}}, "train.select_by: accuracy: not one of loss, mae"),
        ({"train": {"select_by": None, "patience": 2}}, "patience needs select_by"),
        ({"task": "sft"}, "`task: regression` and `regression:` go together"),
        ({"regression": {"tiers": [{"name": "a", "min": 5}, {"name": "b", "min": 1}]}}, "tiers"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_loaded(tmp_path, changes, what):
    folder = write_job(tmp_path / "bad", **changes)
    code, found = finish(folder, start)
    assert (code, found.failure.reason) == (2, "BAD_INPUT")
    assert what in found.failure.message
    assert found.versions == {}


def test_scores_are_held_against_the_rows_own_not_the_trainer_s_in_32_bits():
    from jobs.regression import predicted

    asked = Regression(dimensions=("r",), high=100.0)
    given = np.array([[70.7]], dtype=np.float64)
    output = SimpleNamespace(
        metrics={"eval_loss": 0.0}, predictions=given, label_ids=given.astype(np.float32)
    )
    tuner = SimpleNamespace(predict=lambda rows, metric_key_prefix: output)
    found, _ = predicted(tuner, {"labels": given.tolist()}, asked)
    assert found["mae"] == 0.0


def test_a_score_that_is_no_number_is_no_answer(trained):
    import torch

    from jobs.student import Student

    student = Student(trained[0])
    with torch.no_grad():
        for name, weights in student.model.named_parameters():
            if "score" in name:
                weights.fill_(float("nan"))
    with pytest.raises(BadInput, match="scores of 2 of 2 texts are no finite numbers in fp32"):
        student.scores(["a", "b"])


def test_predict_says_what_is_wrong(trained, tmp_path):
    folder, _ = trained
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "fine"}\n{"title": "no text"}\n')
    done, _ = predict(folder, file)
    expected = f"error: {file}:2: expected `text` or `content`; found `title`"
    assert (done.returncode, done.stderr.strip()) == (2, expected)
    done, _ = predict(tmp_path, folder / "rows.jsonl")
    assert done.returncode == 2
    assert "give the folder of a finished run" in done.stderr
