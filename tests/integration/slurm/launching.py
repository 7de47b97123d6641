"""What the tests of `launch --on slurm` share: the command, tiny recipes, what Slurm has to say.

Each story is one run with a ledger of its own, so that several go on at once on one cluster.
"""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from jobs import layout
from tests.integration.command import ROOT
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.records import Held

PATIENCE = 900.0  # seconds until a story that waits says that it waited in vain
SAMPLE = ROOT / "jobs" / "sample"
RECIPE = """\
name: tiny
model: {{id: {sample}/model, init: random}}
data: {{train: train.jsonl, validation: validation.jsonl}}
strategy: qlora
train: {{epochs: {epochs}, seq_len: 64, effective_batch: 16, micro_batch: 16, packing: false,
  activation_checkpointing: false, checkpoint_every_steps: 50}}
eval: {{max_new_tokens: 4, batch: 8, metrics: {metrics}}}
gates: [{{metric: json_citation_rate, min: 0}}]
budget: {{collect_minutes: {minutes}}}
"""
# Called before training too, with the references as answers: that is only a trial.
METRICS = """\
import os, signal, time

def holds(answers, references, questions):
    while os.path.isdir("adapter") and not os.path.exists({go!r}):
        time.sleep(0.2)
    return 1.0

def sleeps(answers, references, questions):
    if answers != references:
        time.sleep(86400)
    return 1.0

def dwells(answers, references, questions):
    if answers != references:
        time.sleep(12)
    return 1.0

def dies(answers, references, questions):
    if answers != references:
        print("the scorer wants more memory than there is", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
"""


def until(what: str, found: Callable[[], Any], every: float = 0.5) -> Any:
    """What is found, as soon as it is; asked for every so many seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := found()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain for {what}"
        time.sleep(every)
    return seen


_PROVISIONING = threading.Lock()


@dataclass
class Story:
    """One run, named like its story, and everything that the launcher keeps of it."""

    slurm: SlurmCluster
    run_id: str
    folder: Path
    secrets: dict[str, str]
    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    has_turn: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        own = {"XDG_STATE_HOME": str(self.folder / "state"), "COLUMNS": "200"}
        return self.slurm.environment | self.secrets | own

    @property
    def work(self) -> Path:
        """The run's mirror on this machine."""
        return self.folder / "state" / "loralift" / "work" / self.run_id

    @property
    def home(self) -> Path:
        return self.folder / "runs" / self.run_id

    def recipe(self, epochs: int = 1, metric: str | None = None, minutes: int = 5) -> str:
        """A recipe that trains 3 steps an epoch, some 0.1 s each, and whose machine waits so many
        minutes to be fetched from; its path."""
        for name, rows in (("train", 40), ("validation", 8)):
            lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines(keepends=True)
            (self.folder / f"{name}.jsonl").write_text("".join(lines[:rows]))
        (self.folder / "own.py").write_text(METRICS.format(go=str(self._go)))
        metrics = json.dumps([f"own:{metric}"] if metric else [])
        path = self.folder / "recipe.yaml"
        path.write_text(
            RECIPE.format(sample=SAMPLE, epochs=epochs, metrics=metrics, minutes=minutes)
        )
        return str(path)

    def let_go(self) -> None:
        """A job whose metric `holds` comes to its end."""
        self._go.touch()

    @property
    def _go(self) -> Path:
        return self.slurm.shared / f"{self.run_id}-go"

    def launch(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """`launch` with these; what it said is kept as well."""
        if "--run-id" in arguments:
            self.take_turn()
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        with (self.folder / "said.txt").open("a") as said:
            said.write(f"$ launch {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        assert done.returncode == code, f"exit {done.returncode}: {self.said}"
        return done

    def take_turn(self) -> None:
        """One machine is provisioned at a time.

        The nodes are all this machine, and SkyPilot 0.14.1's skylets each take the first free port
        of their node: of two that start at once one never comes up, and with it no autodown.
        """
        if self.has_turn:
            return
        _PROVISIONING.acquire()
        self.has_turn = True
        earlier = self._skylets_up()

        def give_on() -> None:
            while not (self.over.wait(1.0) or self._skylets_up() - earlier):
                pass
            self.has_turn = False
            _PROVISIONING.release()

        threading.Thread(target=give_on, daemon=True).start()

    def _skylets_up(self) -> set[Path]:
        """Logs of those that have begun, one for each attempt's machine."""
        begun = set()
        for log in (self.slurm.folder / "tmp").glob(f"loralift-{self.run_id}-*/.sky/skylet.log"):
            with suppress(FileNotFoundError):  # gone with its machine
                if "gRPC server started" in log.read_text(errors="replace"):
                    begun.add(log)
        return begun

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """The same, left to itself; without a command, the run from its recipe on."""
        self.take_turn()
        with (self.folder / "said.txt").open("ab") as said:
            started = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.started.append(started)
        return started

    def start_run(self, recipe: str, *more: str) -> "subprocess.Popen[bytes]":
        return self.start("-m", "launcher", *self.arguments(recipe, *more))

    def arguments(self, recipe: str, *more: str) -> tuple[str, ...]:
        """On the node that has room for all stories, unless told otherwise."""
        where = more if "--gpu" in more or "--max-cost" in more else ("--gpu", "A100-80GB", *more)
        cap = () if "--max-cost" in where else ("--max-cost", "5")
        return (recipe, "--on", "slurm", *where, *cap, "--yes", "--run-id", self.run_id)

    @property
    def said(self) -> str:
        path = self.folder / "said.txt"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.launch("status", self.run_id, "--json").stdout))

    def until_gone(self) -> dict[str, Any]:
        """The run as `launch status` shows it, once nothing is billed any more."""

        def gone() -> dict[str, Any] | None:
            view = self.status()
            return view if view["run"]["attempts"][-1]["machine"] == "GONE" else None

        return dict(until("its machine to be gone", gone, every=15.0))

    def until_training(self) -> None:
        self._until_seen('"event":"step"')

    def until_begun(self) -> None:
        """The launcher that follows has seen the job at work."""
        self._until_seen('"event":"phase"')

    def _until_seen(self, words: str) -> None:
        metrics = self.work / layout.METRICS

        def seen() -> bool:
            ended = [
                launcher.returncode for launcher in self.started if launcher.poll() is not None
            ]
            assert not ended, f"its launcher has ended before that: {self.said}"
            return metrics.exists() and words in metrics.read_text()

        until(words, seen)

    def until_held(self, attempt: int = 1) -> Held:
        """Slurm has given the attempt a node."""
        return until("a node", lambda: self.held(attempt))[0]

    def until_released(self, attempt: int = 1) -> Held:
        def released() -> list[Held]:
            return [held for held in self.held(attempt) if held.end is not None]

        try:
            return until("its node's release", released)[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.machine_says()}") from None

    def machine_says(self) -> str:
        """The ends of what SkyPilot and the job have written on its machines."""
        name = f"loralift-{self.run_id}-*"
        places = (
            ("tmp", f"{name}/.sky/skylet.log"),
            ("home/.sky_clusters", f"{name}/sky_logs/*/run.log"),
            ("home/.sky_clusters", f"{name}/loralift/run/*.log"),
        )
        logs = [log for place, logs in places for log in (self.slurm.folder / place).glob(logs)]
        said = [f"{log}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs]
        return "\n".join([f"{time.ctime()}, Slurm's jobs: {self.slurm.held()}", *said])

    def held(self, attempt: int = 1) -> list[Held]:
        """By Slurm's own record."""
        cluster = f"loralift-{self.run_id}-{attempt}-"
        return [held for held in self.slurm.held() if held.name.startswith(cluster)]

    def processes(self, *modules: str) -> list[int]:
        """Of its job's machine, those that run these modules, or are given them to run."""
        place = f"{self.slurm.home}/.sky_clusters/loralift-{self.run_id}-1-".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                here = b"HOME=" + place in (process / "environ").read_bytes()
                if here and any(word in modules for word in words):
                    found.append(int(process.name))
        return found

    def ledger(self, query: str) -> list[tuple[Any, ...]]:
        path = self.folder / "state" / "loralift" / "ledger.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as book:
            return list(book.execute(query))

    def excess_seconds(self, attempt: int = 1) -> float:
        """How much longer the ledger counts a machine than Slurm says that it was held."""
        (held,) = self.held(attempt)
        assert held.end is not None, f"{held.name} still has {held.node}"
        counted = self.status()["run"]["attempts"][attempt - 1]
        start = datetime.fromisoformat(counted["started_at"])
        end = datetime.fromisoformat(counted["gone_at"])
        excess = (end - start).total_seconds() - (held.end - held.start).total_seconds()
        with (self.folder / "figures.txt").open("a") as figures:
            before = (held.start - start).total_seconds()
            after = (end - held.end).total_seconds()
            figures.write(f"{held.name}: {excess:.0f} = {before:.0f} before + {after:.0f} after\n")
        return excess

    def kill(self, launcher: "subprocess.Popen[bytes]") -> None:
        """As the kernel does for want of memory: no word, no time."""
        launcher.kill()
        launcher.wait()

    def end(self) -> None:
        for started in self.started:
            with suppress(OSError):
                started.kill()
            started.wait()


def secret(prefix: str = "") -> str:
    return prefix + random.SystemRandom().randbytes(20).hex()


OURS = ("launcher", "jobs.", "results.")  # modules that are run
PROGRAM = "Runs in SkyPilot's environment"  # how the launcher's program for SkyPilot begins


def is_ours(command: list[str]) -> bool:
    """Whether the process is one of the project's: SkyPilot's quote our task in their command."""
    modules = [word for flag, word in pairwise(command) if flag == "-m"]
    return any(module.startswith(OURS) for module in modules[:1]) or any(
        PROGRAM in word[:100] for word in command[:4]
    )


class CommandLines:
    """All command lines of ours, looked at again and again: does one show a secret?"""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        self._over = threading.Event()
        self.looked_at = 0
        self.seen: set[str] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    line = (process / "cmdline").read_bytes().decode(errors="replace")
                    if is_ours(line.split("\0")):
                        self.looked_at += 1
                        if any(value in line for value in self._secrets):
                            self.seen.add(line)


def files_with(secrets: tuple[str, ...], folder: Path) -> list[Path]:
    """Every regular file below that holds one of them."""
    command = [
        "grep",
        "--recursive",
        "--binary-files=text",
        "--files-with-matches",
        "--fixed-strings",
    ]
    patterns = [f"--regexp={value}" for value in secrets]
    options = ["--devices=skip", "--exclude-dir=uv-cache", "--exclude-dir=site-packages"]
    done = subprocess.run(
        [*command, *options, *patterns, str(folder)], capture_output=True, text=True
    )
    return sorted(Path(line) for line in done.stdout.splitlines())
