"""A tracker beside the training, which it can neither end nor hold up."""

import threading
import time
from types import SimpleNamespace

import pytest

from jobs import layout, tracking
from jobs.tracking import INTEGRATION_TO_CALLBACK, Tracking
from tests.jobs.short_job import curve, finish, write_job

pytestmark = pytest.mark.filterwarnings("default")

STATE = SimpleNamespace(is_world_process_zero=True, global_step=1)
QUICK = {"compare_base": False, "generate": False}


def test_without_its_library_the_job_trains_to_its_end_and_says_so_once(tmp_path):
    """transformers' own refusal, in an environment that has no tensorboard."""
    folder = tmp_path / "r"
    write_job(folder, eval=QUICK, gates=[], track="tensorboard", run_id="r")
    code, result = finish(folder)
    log = (folder / layout.LOG).read_text()
    assert code == 0, log
    assert curve(folder)
    assert result.tracked.logs == 0
    assert "TensorBoardCallback requires tensorboard" in result.tracked.problem
    assert log.count("--track tensorboard:") == 1


def tracked(tmp_path, monkeypatch, callback) -> Tracking:
    """The tracker's own place in transformers' table taken by one that does as we like."""
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "tensorboard", callback)
    return Tracking("tensorboard", tmp_path)


class Callback:
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_train_begin(self, args, state, control, model=None): ...

    def on_log(self, args, state, control, logs=None, model=None):
        self.seen.append((state.global_step, logs["loss"]))

    def on_train_end(self, args, state, control, model=None): ...


def test_it_is_given_each_log_of_the_training_and_no_other(tmp_path, monkeypatch):
    inner = Callback()
    found = tracked(tmp_path, monkeypatch, lambda: inner)
    found.on_log(None, STATE, None, logs={"loss": 9.0})  # the base's evaluation
    found.on_train_begin(None, STATE, None)
    state, logs = SimpleNamespace(**vars(STATE)), {"loss": 2.0}
    found.on_log(None, state, None, logs=logs)
    state.global_step, logs["loss"] = 2, 1.0  # the trainer's own objects go on
    found.on_log(None, state, None, logs=logs)
    found.on_train_end(None, STATE, None)
    found.on_log(None, STATE, None, logs={"loss": 9.0})  # the answers after it
    assert inner.seen == [(1, 2.0), (2, 1.0)]
    assert found.ended().logs == 2
    assert found.ended().problem == ""
    assert not tracking.is_stuck()


def test_one_that_hangs_is_left_behind(tmp_path, monkeypatch):
    release = threading.Event()

    class Hangs(Callback):
        def on_log(self, *_, **__):
            release.wait()

    monkeypatch.setattr(tracking, "END_SECONDS", 0.2)
    found = tracked(tmp_path, monkeypatch, Hangs)
    found.on_train_begin(None, STATE, None)
    found.on_log(None, STATE, None, logs={"loss": 2.0})
    assert "not everything was sent in 0.2 s" in found.ended().problem
    assert tracking.is_stuck()
    release.set()
    while tracking.is_stuck():
        time.sleep(0.01)


def test_one_that_fails_midway_is_told_nothing_more(tmp_path, monkeypatch):
    asked = []

    class Fails(Callback):
        def on_log(self, *_, **__):
            asked.append(1)
            raise ConnectionError("the server\nis gone")

    found = tracked(tmp_path, monkeypatch, Fails)
    found.on_train_begin(None, STATE, None)
    for _ in range(3):
        found.on_log(None, STATE, None, logs={"loss": 2.0})
    assert found.ended().problem == "ConnectionError: the server is gone"
    assert asked == [1]


def test_a_password_in_an_address_is_said_by_no_problem(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:word@flow.example/api")
    found = Tracking("mlflow", tmp_path)
    found._say("API request to https://me:word@flow.example/api failed")
    assert found.ended().problem == "API request to https://flow.example/api failed"
    assert "word" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tracker", "given", "where"),
    [
        ("tensorboard", {}, "tracking/"),
        ("mlflow", {}, "tracking/mlruns/"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "https://me:word@flow.example/x"},
         "https://flow.example/x"),
        ("wandb", {"WANDB_API_KEY": "k"}, "https://api.wandb.ai"),
        ("wandb", {}, "tracking/"),
        ("trackio", {"TRACKIO_SPACE_ID": "me/space"}, "me/space"),
    ],
)  # fmt: skip
def test_where_it_goes_is_said_without_a_password(tmp_path, monkeypatch, tracker, given, where):
    from jobs.spec import ResolvedSpec

    with monkeypatch.context() as patch:
        patch.setattr(tracking.os, "environ", {"NETRC": str(tmp_path / "netrc")} | given)
        job = ResolvedSpec(
            run_id="r", model={"id": "x"}, data={"train": "x"}, strategy="lora", dtype="fp32",
            device="cpu", quantization=None, track=tracker,
        )  # fmt: skip
        tracking.set_environment(job, tmp_path)
        assert Tracking(tracker, tmp_path).ended().where == where
