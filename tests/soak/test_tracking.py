"""The heavier trackers, each with its own library: what is read back is the run's own curve; and a
server that is down."""

import time
from pathlib import Path

import pytest

from launcher.executors import environment
from tests.integration.command import Command
from tests.integration.tracked import curve, read_back, train


@pytest.fixture
def launch(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb", "trackio"])
def test_what_is_read_back_is_the_runs_curve(
    launch: Command,
    tracker: str,
) -> None:
    offline = {"WANDB_MODE": "offline"} if tracker == "wandb" else {}
    home, result = train(launch, tracker, **offline)
    assert result["tracked"]["problem"] == ""
    assert result["tracked"]["where"].startswith("tracking/")
    python = environment.training_python(None, print)
    there, own = read_back(tracker, home, str(python)), curve(home)
    assert [step for step, _ in there] == [step for step, _ in own]
    assert [loss for _, loss in there] == pytest.approx([loss for _, loss in own], rel=1e-6)


def test_a_server_that_is_down_costs_seconds_and_not_the_training(launch: Command) -> None:
    begun = time.monotonic()
    home, result = train(launch, "mlflow", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "127.0.0.1" in result["tracked"]["problem"]
    assert result["status"] == "success"
    print(f"{time.monotonic() - begun:.0f} s in all; {len(curve(home))} steps")
