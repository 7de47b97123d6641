"""`--track`: the curve that a tracker shows is the run's own."""

import json

import pytest

from jobs import layout
from tests.integration.command import Command
from tests.integration.tracked import curve, read_back, train


def test_the_event_file_holds_the_runs_curve(launch: Command, train_python: str) -> None:
    home, result = train(launch, "tensorboard")
    steps = [step for step, _ in curve(home)]
    assert result["tracked"] == {
        "tracker": "tensorboard", "where": "tracking/", "logs": len(steps) + 1, "problem": "",
    }  # fmt: skip
    there = read_back("tensorboard", home, train_python)
    assert [step for step, _ in there] == steps
    assert [loss for _, loss in there] == pytest.approx([loss for _, loss in curve(home)], rel=1e-6)
    assert "Tracked by tensorboard" in (home / layout.REPORT).read_text()
    metadata = json.loads((home / layout.METADATA).read_text())
    assert metadata["tracked"] == result["tracked"]
    assert f"{layout.TRACKING}/events" in (home / layout.SUMS).read_text()


def test_what_it_lacks_is_said_before_anything_starts(
    launch: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(launch.folder / "netrc"))
    refused = launch("--track", "wandb", "--run-id", "never")
    assert refused.returncode == 2
    assert "tracker: wandb has no WANDB_API_KEY; set it, or WANDB_MODE=offline" in refused.stderr
    assert "no run never" in launch("status", "never").stderr
    unknown = launch("--track", "mlfow", "--dry-run")
    assert unknown.returncode == 2
    assert "mlflow" in unknown.stderr
