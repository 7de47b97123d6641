"""A job without end on a machine, as a canary submits it: ended there at its deadline, and by
nothing there once it is halted.

The task is the rendered one, and its scripts run as SkyPilot runs them, in a home of their own; the
GPU is pretended. Renting and taking down are the Slurm tests'.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.spec import Result
from launcher import api, paths, recipes, render
from launcher.executors import environment
from launcher.planning.canary import EPOCHS, PARTS, affordable, intended, plan_of
from launcher.running.canary.halting import Unproved, halt
from launcher.types import Plan
from tests.integration.conftest import train_python

PATIENCE = 400.0  # seconds until a test that waits says that it waited in vain
PARTS_OF_ALL = tuple(PARTS)

__all__ = ["train_python"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The sample job on RunPod, by the embedded prices."""
    flags = recipes.Flags(providers=("runpod",), gpu="RTX4090", max_cost=5.0)
    made = api.plan(str(paths.sample_recipe()), flags, run_id="canary-1", now=api.utc_now())
    return affordable(made, PARTS_OF_ALL)


class Machine:
    """What is rented: its own home, the task's files and environment, and SkyPilot's `run`."""

    def __init__(self, home: Path, plan: Plan, name: str, seconds: float) -> None:
        part = next(part for part in intended(plan, PARTS_OF_ALL) if part.name == name)
        made = plan_of(plan, part, f"test-{os.urandom(4).hex()}", datetime.now(UTC))
        self.home, self.run_id = home, made.run_id
        self.started: list[subprocess.Popen[bytes]] = []
        self.deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        chosen = made.chosen
        assert chosen is not None
        assert chosen.spec is not None
        spec = msgspec.structs.replace(chosen.spec, deadline=self.deadline.isoformat())
        task = render.task(made, msgspec.structs.replace(chosen, spec=spec))
        self.task: dict[str, Any] = yaml.safe_load(task)
        for place, here in self.task["file_mounts"].items():
            there = home / place.removeprefix("~/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(here)
        lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
        (home / "envs").mkdir()
        (home / "envs" / lock).symlink_to(environment.folder())

    @property
    def run(self) -> Path:
        return self.home / "loralift" / "run"

    def stage(self, name: str) -> "subprocess.Popen[bytes]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SKYPILOT"))}
        own = {
            "HOME": str(self.home),
            "LORALIFT_ENVS": str(self.home / "envs"),
            "LORALIFT_PRETEND_GPU": "1",
            "LORALIFT_WATCHDOG_POLL_SECONDS": "0.2",
            "OMP_NUM_THREADS": "1",
        }
        with (self.home / f"{name}.out").open("wb") as out:
            started = subprocess.Popen(
                ["bash", "-m", "-c", self.task[name]],  # with job control, as SkyPilot's is
                cwd=self.home,
                env=kept | self.task["envs"] | own,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(started)
        return started

    def begin(self) -> "subprocess.Popen[bytes]":
        """Set up, and the job started."""
        assert self.stage("setup").wait(60) == 0, self.said
        return self.stage("run")

    def __call__(self, call: str, *, cluster: str, command: str) -> list[Any]:
        """As SkyPilot runs a command there: a shell that has nothing of the task's environment."""
        assert (call, cluster) == ("run", "c")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        return [done.returncode, done.stdout + done.stderr]

    @property
    def said(self) -> str:
        return "".join(path.read_text() for path in self.home.glob("*.out"))[-4000:]

    def processes(self) -> dict[int, str]:
        """Of the run: process id → state."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f'"run_id":"{self.run_id}"'.encode() in (process / "environ").read_bytes():
                    state = (process / "stat").read_text().rpartition(") ")[2][0]
                    found[int(process.name)] = state
        return {pid: state for pid, state in found.items() if state != "Z"}

    def end(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for stage in self.started:
            stage.kill()
            stage.wait()


@pytest.fixture
def rented(
    tmp_path: Path, plan: Plan, train_python: str
) -> Iterator[Callable[[str, float], Machine]]:
    made = []

    def rent(part: str, seconds: float) -> Machine:
        home = tmp_path / "home"
        home.mkdir()
        made.append(Machine(home, plan, part, seconds))
        return made[-1]

    yield rent
    for machine in made:
        machine.end()


def wait_for(found: Callable[[], object], machine: Machine) -> None:
    until = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < until, f"waited in vain: {machine.said}"
        time.sleep(0.2)


def test_its_machine_ends_it_at_its_deadline(rented: Callable[[str, float], Machine]) -> None:
    machine = rented("machine", 240)
    job = machine.begin()
    assert job.wait(PATIENCE) == EXIT_CODES["DEADLINE"], machine.said
    result = msgspec.json.decode((machine.run / layout.RESULT).read_bytes(), type=Result)
    assert result.failure is not None
    assert result.failure.reason == "DEADLINE"
    assert result.steps > 0, "its deadline came before its training"
    steps = [json.loads(line) for line in (machine.run / layout.METRICS).read_text().splitlines()]
    assert {s["steps_total"] for s in steps if s["event"] == "step"} == {57 * int(EPOCHS)}
    wait_for(lambda: machine.processes() == {}, machine)  # the watchdog, too


def test_nothing_there_ends_it_once_it_is_halted(rented: Callable[[str, float], Machine]) -> None:
    machine = rented("guard", 120)
    job = machine.begin()
    said = halt(machine, "c", machine.run_id, machine.deadline)
    assert said.startswith("the watchdog was killed, the ")
    assert datetime.now(UTC) < machine.deadline, "too late to show anything"
    halted = machine.processes()
    assert list(halted.values()).count("T") == 2, f"{halted}: not `timeout` and the job"
    time.sleep((machine.deadline - datetime.now(UTC)).total_seconds() + 15)
    assert machine.processes() == halted
    assert job.poll() is None
    assert not (machine.run / layout.RESULT).exists()


def test_a_machine_on_which_nothing_has_begun_cannot_be_halted(
    rented: Callable[[str, float], Machine],
) -> None:
    machine = rented("guard", 45)
    with pytest.raises(Unproved, match="its job had not begun at its deadline"):
        halt(machine, "c", machine.run_id, datetime.now(UTC) + timedelta(seconds=6))
