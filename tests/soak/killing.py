"""Random kills of `launch`, SkyPilot's API server or the job, and what a person does after them.

Every kill is a story of its own (tests/integration/slurm/launching.py): a run begins, something is
killed at a random moment of it, and then only the ordinary commands are used.
"""

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from jobs import layout, processes
from jobs.processes import Process
from launcher.catalog.providers import LOCAL
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.launching import Story, until

# The server alone, as the kernel does for want of memory, or with all that works for it.
TARGETS = ("launcher", "server", "server and workers", "job")
# Moments of a run, and how many seconds after their first sign the kill may come: the last reaches
# into the fetching and the machine's end.
MOMENTS = {"provisioning": 40.0, "set-up": 5.0, "training": 20.0, "evaluating": 25.0}
UNNOTICED_SECONDS = 15.0  # that a person takes to find out what a dead server left
JOB_SECONDS = 8.0  # a job is alive for longer than this after each of them
EPOCHS = 40  # of 3 steps: half a minute to a minute of training
CHECKPOINTS = "train.checkpoint_every_steps=10"
RESUMED_AT_MOST = 4  # times; a person would give up as well


class Kill(NamedTuple):
    number: int
    target: str
    moment: str
    wait: float  # seconds after the moment's first sign

    @property
    def name(self) -> str:
        return "-".join([f"{self.number:02}", *self.target.split(), self.moment])


def plan_of(seed: int, count: int) -> list[Kill]:
    """Random kills: every target at every moment before any pair comes again."""
    drawn = random.Random(seed)
    pairs = [(t, m) for t, m in product(TARGETS, MOMENTS) if (t, m) != ("job", "provisioning")]
    order: list[tuple[str, str]] = []
    while len(order) < count:
        order += drawn.sample(pairs, len(pairs))
    return [
        Kill(number, target, moment, drawn.uniform(0, _at_most(target, moment)))
        for number, (target, moment) in enumerate(order[:count], start=1)
    ]


def _at_most(target: str, moment: str) -> float:
    return min(MOMENTS[moment], JOB_SECONDS) if target == "job" else MOMENTS[moment]


@dataclass
class Death:
    """What one kill met."""

    at: float = 0.0  # time.monotonic
    seen: str = ""  # what the job was at
    step: int = 0  # of the newest complete checkpoint on the node


class Stage:
    """The cluster that all stories share, and when its API server was killed."""

    def __init__(self, slurm: SlurmCluster) -> None:
        self.slurm = slurm
        self.servers_killed: list[float] = []

    def server(self) -> Process | None:
        port = self.slurm.environment["SKYPILOT_API_SERVER_LOCAL_PORT"]
        for pid, command in self.slurm.processes_left().items():
            if "sky.server.server" in command and f"--port={port}" in command:
                return processes.identify(pid)
        return None


class Killed(Story):
    """A run that something of is killed."""

    def begin(self) -> None:
        self.start_run(self.recipe(epochs=EPOCHS, metric="dwells"), "--set", CHECKPOINTS)

    @property
    def node(self) -> Path | None:
        """The newest attempt's folder on its machine."""
        found = self.slurm.home.glob(f".sky_clusters/loralift-{self.run_id}-[0-9]*/loralift")
        return max(found, key=lambda folder: folder.parent.name, default=None)

    def _written(self, name: str) -> str:
        """A file of the run on its machine, as far as it goes."""
        with suppress(OSError):
            if self.node is not None:
                return (self.node / "run" / name).read_text(errors="replace")
        return ""

    def shows(self, moment: str) -> bool:
        """Whether the moment has come."""
        if moment == "provisioning":
            return "asking SkyPilot for" in self.said
        if moment == "set-up":
            return self.node is not None and any(self.node.glob("watchdog/*/setup.*.pid"))
        sign = '"event":"step"' if moment == "training" else '"phase":"evaluate"'
        return sign in self._written(layout.METRICS)

    def now_at(self) -> str:
        """The last that the run's machine shows, for the record."""
        if self._written(layout.RESULT):
            return "its end"
        lines = self._written(layout.METRICS).splitlines()
        phases = [line for line in lines if '"event":"phase"' in line]
        if phases:
            with suppress(ValueError):
                return str(json.loads(phases[-1])["phase"])
        return "set-up" if self.shows("set-up") else "provisioning"

    def checkpoint(self) -> int:
        """The newest complete one's step, on its machine; 0 where there is none."""
        if self.node is None:
            return 0
        whole = self.node.glob(f"run/{layout.CHECKPOINTS}/*/{layout.COMPLETE}")
        steps = [path.parent.name.removeprefix(layout.CHECKPOINT_PREFIX) for path in whole]
        return max(map(int, steps), default=0)

    def job(self) -> list[Process]:
        """Of its machine: the job, or the set-up's shell and all below it before there is one."""
        if self.node is None:
            return []
        with suppress(OSError, ValueError):
            found = processes.identify(int((self.node / "run" / layout.PID).read_text()))
            if found is not None:
                return [found]
        shells = []
        for path in self.node.glob("watchdog/*/setup.*.pid"):
            with suppress(OSError, ValueError, TypeError):
                shells.append(Process(**json.loads(path.read_text())))
        return list(processes.tree(shells))

    def await_moment(self, moment: str) -> None:
        """Another story's kill of the server may have cost this one its machine meanwhile."""

        def come() -> bool:
            if not self.shows(moment) and self.started[-1].poll() is not None:
                self.goes_on_once()
            return self.shows(moment)

        until(f"{self.run_id}: {moment}", come)

    def die(self, stage: Stage, kill: Kill) -> Death:
        """Kill it, SIGKILL, when its moment has come and the wait is over."""
        self.await_moment(kill.moment)
        time.sleep(kill.wait)
        death = Death(seen=self.now_at(), step=self.checkpoint())
        if kill.target == "launcher":
            launcher = self.started[-1]
            assert launcher.poll() is None, f"the launcher had ended by itself: {self.said}"
            self.kill(launcher)
        elif kill.target == "job":
            victims = until("a job to kill", self.job)
            assert any(processes.send(victim, signal.SIGKILL) for victim in victims)
        else:
            server = until("an API server", stage.server)
            below = processes.tree([server]) - {server}
            stage.servers_killed.append(time.monotonic())
            assert processes.send(server, signal.SIGKILL)
            if kill.target == "server":
                time.sleep(UNNOTICED_SECONDS)
            # until they are gone no other server can start: a person has to end them
            processes.kill(below)
        death.at = time.monotonic()
        return death

    # --- what a person does ---------------------------------------------------------------

    def goes_on(self, first: str) -> None:
        """Look (with this command first), stay with what goes on, resume what ended early."""
        if first == "status":
            self.status()
        for _ in range(RESUMED_AT_MOST + 1):
            if self.goes_on_once():
                return
        raise AssertionError(f"resumed {RESUMED_AT_MOST} times in vain: {self.said}")

    def goes_on_once(self) -> bool:
        """Whether the run has succeeded and nothing is billed; if not, a step towards that."""
        self.started[-1].wait(1800)
        self.launch("guard", "--watch")
        run = self.status()["run"]
        if run["state"] == "SUCCEEDED":
            return True
        self.ended_early(run)
        self.start("-m", "launcher", "--run-id", self.run_id, "--yes")
        return False

    def ended_early(self, run: dict[str, Any]) -> None:
        """What is not finished is here, and can go on."""
        assert run["state"] == "FAILED", f"{run['state']}: {self.said}"
        assert run["attempts"][-1]["machine"] == "GONE"
        assert run["attempts"][-1]["provider"] != LOCAL
        assert self.work.is_dir(), "nothing of the run is on this machine"

    def checkpoint_here(self, step: int) -> bool:
        name = f"{layout.CHECKPOINT_PREFIX}{step}"
        return (self.work / layout.CHECKPOINTS / name / layout.COMPLETE).is_file()


def stop_autodown(story: Story) -> int:
    """SkyPilot's daemon on the run's machine stands still, until SkyPilot starts another one; how
    many there are."""
    place = f"/loralift-{story.run_id}-1-"
    left = story.slurm.processes_left().items()
    found = [pid for pid, command in left if "sky.skylet.skylet" in command and place in command]
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    return len(found)


def clusters_of(slurm: SlurmCluster, run_id: str) -> list[str]:
    """SkyPilot's that are a run's, by its own word; it may be starting its server meanwhile."""

    def named() -> list[str] | None:
        try:
            return slurm.sky_clusters()
        except (AssertionError, subprocess.TimeoutExpired):
            return None

    names: list[str] = []

    def answered() -> bool:
        found = named()
        names[:] = found or []
        return found is not None

    until("SkyPilot's answer", answered, every=10.0)
    return [name for name in names if name.startswith(f"loralift-{run_id}-")]


def setting(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)
