"""The scripts of sky/train.yaml as SkyPilot runs them, in a home of their own, over real jobs.

The training environment of these tests is linked in under the lock's hash: nothing is installed.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest
import yaml

from jobs import layout
from jobs.checkpoint import last_complete, step_of
from jobs.device import PRETEND_VARIABLE, PRETENDED
from jobs.exit_codes import EXIT_CODES
from jobs.spec import Result
from tests.jobs.short_job import ROOT, curve, wait_for_step, write_job

TASK = yaml.safe_load((ROOT / "sky" / "train.yaml").read_text())


class Machine:
    """A home with what the task mounts, and its environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run = home / "loralift" / "run"
        for place, here in TASK["file_mounts"].items():
            path = home / place.removeprefix("~/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to((ROOT / here).resolve())
        lock = (ROOT / "images" / "requirements.lock").read_bytes()
        envs = home / "envs"
        envs.mkdir()
        (envs / hashlib.sha256(lock).hexdigest()[:16]).symlink_to(sys.prefix)
        self.settings = {
            **TASK["envs"],
            "HOME": str(home),
            "LORALIFT_ENVS": str(envs),
            "LORALIFT_DEADLINE": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "LORALIFT_WATCHDOG_POLL_SECONDS": "0.2",
            "OMP_NUM_THREADS": "1",
        }

    def stage(self, stage: str, **environment: str) -> subprocess.Popen:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SKYPILOT"))}
        with (self.home / f"{stage}.out").open("wb") as out:
            return subprocess.Popen(
                ["bash", "-c", TASK[stage]],
                cwd=self.home,
                env=kept | self.settings | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def give(self, name: str, **changes) -> None:
        """The spec and data of a short job, as they travel."""
        folder = write_job(self.home / name, **changes)
        for path in folder.glob("*.jsonl"):
            path.rename(self.run / path.name)
        self.settings["LORALIFT_SPEC"] = (folder / layout.SPEC).read_text()

    def result(self) -> Result:
        return msgspec.json.decode((self.run / layout.RESULT).read_bytes(), type=Result)

    def said(self) -> str:
        return "".join(path.read_text() for path in self.home.glob("*.out"))


@pytest.fixture
def machine(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    machine = Machine(home)
    machine.run.mkdir()
    yield machine
    for path in (machine.home / "loralift" / "watchdog").glob("*/lock"):
        try:
            psutil.Process(json.loads(path.read_text())["pid"]).kill()
        except (psutil.NoSuchProcess, ValueError):
            continue


SHORT = {"eval": {"generate": False, "compare_base": False}, "gates": []}
LONG = {
    "epochs": 50,
    "learning_rate": 4e-3,
    "seq_len": 128,
    "effective_batch": 2,
    "micro_batch": 1,
    "checkpoint_every_steps": 5,
}


def test_from_setup_to_result(machine):
    """Planned for a GPU that is pretended; the rows wait in the run's folder, as mounted."""
    machine.give("r-1", device="cuda", dtype="bf16", **SHORT)
    machine.settings[PRETEND_VARIABLE] = "1"
    assert machine.stage("setup").wait(60) == 0, machine.said()
    assert (machine.home / "loralift" / "venv").resolve() == Path(sys.prefix).resolve()
    assert machine.stage("run").wait(300) == 0, machine.said()
    found = machine.result()
    assert (found.status, found.run_id) == ("success", "r-1")
    assert PRETENDED in found.warnings
    log = (machine.run / layout.LOG).read_text()
    assert log.index("training environment: ") < log.index("step 2/")


def test_a_failing_job_s_exit_code_arrives(machine):
    machine.give("r-2", model={"id": "./nowhere"})
    assert machine.stage("setup").wait(60) == 0, machine.said()
    assert machine.stage("run").wait(60) == EXIT_CODES["BAD_INPUT"]
    assert machine.result().failure.reason == "BAD_INPUT"


def test_a_gpu_that_is_not_here_is_told_before_anything_is_loaded(machine):
    machine.give("r-3", device="cuda")
    assert machine.stage("setup").wait(60) == 0, machine.said()
    run = machine.stage("run", CUDA_VISIBLE_DEVICES="")
    assert run.wait(60) == EXIT_CODES["BAD_INPUT"]
    failure = machine.result().failure
    assert failure.message.startswith("device: a GPU was planned, torch ")
    assert "nvidia-smi says: " in failure.message


def test_a_training_that_stops_stepping_is_a_stall_with_its_checkpoint_kept(machine):
    machine.give("r-4", **SHORT, train=LONG)
    machine.settings["LORALIFT_STALL_STEP_SECONDS"] = "5"
    assert machine.stage("setup").wait(60) == 0, machine.said()
    run = machine.stage("run")
    wait_for_step(machine.run, 12, run)
    os.kill(int((machine.run / layout.PID).read_text()), signal.SIGSTOP)
    assert run.wait(120) == EXIT_CODES["STALLED"], machine.said()
    found = machine.result()
    assert found.failure.reason == "STALLED"
    assert "no step in " in found.failure.message
    assert step_of(last_complete(machine.run / layout.CHECKPOINTS)) == curve(machine.run)[-1][0]
