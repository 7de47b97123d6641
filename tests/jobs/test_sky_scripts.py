"""The scripts of sky/train.yaml as SkyPilot runs them, in a home of their own, over real jobs.

The training environment of these tests is linked in under the lock's hash: nothing is installed.
"""

import hashlib
import os
import platform
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import yaml

from jobs import daemon, layout, processes
from jobs.checkpoint import last_complete, step_of
from jobs.device import PRETEND_VARIABLE, PRETENDED
from jobs.exit_codes import EXIT_CODES
from jobs.spec import Result
from jobs.watchdog import LOCK
from tests.jobs.short_job import ROOT, curve, wait_for_step, write_job

SECONDS = 600  # until a test that waits says that it waited in vain
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
    dogs = map(daemon.holder, (home / "loralift" / "watchdog").glob(f"*/{LOCK}"))
    processes.kill(filter(None, dogs))


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
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert (machine.home / "loralift" / "venv").resolve() == Path(sys.prefix).resolve()
    assert machine.stage("run").wait(SECONDS) == 0, machine.said()
    found = machine.result()
    assert (found.status, found.run_id) == ("success", "r-1")
    assert PRETENDED in found.warnings
    log = (machine.run / layout.LOG).read_text()
    assert log.index("training environment: ") < log.index("step 2/")


def test_the_environment_is_made_once_and_a_half_made_one_again(machine, tmp_path):
    """From a wheel called torch, by pip itself; two set-ups at once."""
    home = small_environment(machine, tmp_path)
    (home / "bin").mkdir(parents=True)
    (home / "left").touch()
    both = [machine.stage("setup"), machine.stage("setup")]
    assert [one.wait(SECONDS) for one in both] == [0, 0], machine.said()
    log = (machine.run / layout.LOG).read_text()
    assert log.count("making the training environment in ") == 1
    assert log.count("training environment: ") == 2
    assert not (home / "left").exists()
    python = machine.home / "loralift" / "venv" / "bin" / "python"
    asked = [python, "-c", "import torch; print(torch.__file__)"]
    found = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    assert found.resolve().is_relative_to(home)


def test_an_environment_that_cannot_be_had_ends_set_up_and_is_not_ready(machine, tmp_path):
    home = small_environment(machine, tmp_path)
    lock = machine.home / "loralift" / "requirements.lock"
    lock.write_text("torch==2.0\ngone==1.0\n")
    home = home.with_name(hashlib.sha256(lock.read_bytes()).hexdigest()[:16])
    assert machine.stage("setup").wait(SECONDS) != 0
    assert "gone==1.0" in (machine.run / layout.LOG).read_text()
    assert not (home / "ready").exists()


def test_an_image_s_environment_is_taken_where_it_is_of_this_lock(machine, tmp_path):
    """As an image carries it: in a folder named by the lock's hash, with a file `ready`."""
    kept, image = small_environment(machine, tmp_path), tmp_path / "image"
    machine.settings["LORALIFT_IMAGE_ENVS"] = str(image)
    (image / "0123456789abcdef").mkdir(parents=True)
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    log = machine.run / layout.LOG
    assert "the image has no environment of this lock" in log.read_text()
    assert (machine.home / "loralift" / "venv").resolve() == kept
    (image / kept.name).symlink_to(sys.prefix)
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert (machine.home / "loralift" / "venv").resolve() == Path(sys.prefix).resolve()
    assert log.read_text().count("making the training environment in ") == 1


def test_a_tracker_is_added_beside_the_environment_or_done_without(machine, tmp_path):
    write_wheel(tmp_path / "wheels", "flow", "1.0")
    machine.settings |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    lock = machine.home / "loralift" / "tracker.lock"
    lock.write_text("flow==1.0\n")
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    added = machine.home / "loralift" / "tracker"
    assert (added / "flow.py").exists()
    lock.write_text("gone==2.0\n")
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert not added.exists()
    log = (machine.run / layout.LOG).read_text()
    assert "it cannot be had: nothing will be tracked" in log


def test_an_environment_that_runs_on_other_nodes_alone_stays(machine, tmp_path):
    """The second of a lock, beside the one whose interpreter is not on this node."""
    home = small_environment(machine, tmp_path)
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to("/nowhere/python3")
    (home / "ready").touch()
    for _ in range(2):
        assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    log = (machine.run / layout.LOG).read_text()
    assert log.count("making the training environment in ") == 1
    assert (home / "bin" / "python").is_symlink()
    own = Path(f"{home}-{platform.machine()}-{platform.node()}")
    assert (machine.home / "loralift" / "venv").resolve() == own
    (own / "bin" / "python").unlink()
    assert machine.stage("setup").wait(SECONDS) == 1
    assert (own / "ready").exists()
    assert "remove that folder when no job uses it" in (machine.run / layout.LOG).read_text()


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ("(3, 8)", "Python >= 3.11 is needed and not here"),
        ("(3, 11)", "apt-get install python3-venv"),
    ],
)
def test_a_machine_without_what_is_needed_says_so(machine, tmp_path, version, what):
    """A python3 that stands before the machine's own: too old, or without ensurepip and pip."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        wrapper = (
            "#!/bin/sh\n"
            'case "$*" in *venv* | *pip*) exit 1 ;; *version_info*) '
            f'exec {sys.executable} -c "import sys; sys.exit({version} < (3, 11))" ;; esac\n'
            f'exec {sys.executable} "$@"\n'
        )
        (tools / name).write_text(wrapper)
        (tools / name).chmod(0o755)
    machine.settings |= {
        "LORALIFT_ENVS": str(tmp_path / "kept"),
        "PATH": f"{tools}:/usr/bin:/bin",
    }
    assert machine.stage("setup").wait(SECONDS) == 1
    assert what in (machine.run / layout.LOG).read_text()


def small_environment(machine: Machine, folder: Path) -> Path:
    """Have set-up install a wheel called torch and nothing else; where it will keep it."""
    wheels, envs = folder / "wheels", folder / "kept"
    write_wheel(wheels, "torch", "2.0")
    lock = machine.home / "loralift" / "requirements.lock"
    lock.unlink()
    lock.write_text("torch==2.0\n")
    machine.settings |= {
        "LORALIFT_ENVS": str(envs),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin",
    }
    return envs / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]


def write_wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(path, content)


def test_set_up_ends_at_the_deadline_without_the_watchdog(machine):
    """One that watches nothing, and a script that waits."""
    loralift = machine.home / "loralift"
    (loralift / "setup.sh").unlink()
    (loralift / "setup.sh").write_text("exec sleep 600")
    (loralift / "code" / "jobs").unlink()
    (loralift / "code" / "jobs").mkdir()
    (loralift / "code" / "jobs" / "watchdog.py").touch()
    deadline = datetime.now(UTC) + timedelta(seconds=2)
    machine.settings["LORALIFT_DEADLINE"] = f"{deadline:%Y-%m-%dT%H:%M:%SZ}"
    assert machine.stage("setup").wait(SECONDS) == 124, (
        machine.said()
    )  # timeout(1): it ended the command


def test_a_failing_job_s_exit_code_arrives(machine):
    machine.give("r-2", model={"id": "./nowhere"})
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert machine.stage("run").wait(SECONDS) == EXIT_CODES["BAD_INPUT"]
    assert machine.result().failure.reason == "BAD_INPUT"


def test_a_run_that_cannot_be_restored_says_why(machine, tmp_path):
    """Its store is a file."""
    store = tmp_path / "store"
    store.write_text("no folder")
    machine.give("r-5", **SHORT)
    machine.settings["LORALIFT_STORE"] = str(store)
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert machine.stage("run").wait(SECONDS) == EXIT_CODES["ERROR"], machine.said()
    found = machine.result()
    assert (found.run_id, found.failure.reason) == ("r-5", "ERROR")
    assert found.failure.message.startswith(f"store {store}: cannot ")
    assert not (machine.run / layout.METRICS).exists()  # no job was started


def test_a_sync_that_dies_is_started_once_more(machine, tmp_path):
    """One that restores, dies beside the job, and does its work when called again."""
    called = tmp_path / "called"
    results = machine.home / "loralift" / "code" / "results"
    results.unlink()
    results.mkdir()
    (results / "sync.py").write_text(
        "import pathlib, sys\n"
        f"called = pathlib.Path({str(called)!r})\n"
        "with called.open('a') as out:\n"
        "    out.write(' '.join(sys.argv[5:]) + '\\n')\n"
        "sys.exit(len(called.read_text().splitlines()) == 2)\n"
    )
    machine.give("r-6", model={"id": "./nowhere"})
    machine.settings["LORALIFT_STORE"] = str(tmp_path / "store")
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    assert machine.stage("run").wait(SECONDS) == EXIT_CODES["BAD_INPUT"], machine.said()
    assert called.read_text().splitlines() == [
        "--restore",
        "--linger 300 --alive ../alive",
        "--linger 60 --alive ../alive",
    ]


def test_a_gpu_that_is_not_here_is_told_before_anything_is_loaded(machine):
    machine.give("r-3", device="cuda")
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    run = machine.stage("run", CUDA_VISIBLE_DEVICES="")
    assert run.wait(SECONDS) == EXIT_CODES["BAD_INPUT"]
    failure = machine.result().failure
    assert failure.message.startswith("device: a GPU was planned, torch ")
    assert "nvidia-smi says: " in failure.message


def test_a_training_that_stops_stepping_is_a_stall_with_its_checkpoint_kept(machine):
    machine.give("r-4", **SHORT, train=LONG)
    machine.settings["LORALIFT_STALL_STEP_SECONDS"] = "5"
    assert machine.stage("setup").wait(SECONDS) == 0, machine.said()
    run = machine.stage("run")
    wait_for_step(machine.run, 12, run)
    os.kill(int((machine.run / layout.PID).read_text()), signal.SIGSTOP)
    assert run.wait(SECONDS) == EXIT_CODES["STALLED"], machine.said()
    found = machine.result()
    assert found.failure.reason == "STALLED"
    assert "no step in " in found.failure.message
    assert step_of(last_complete(machine.run / layout.CHECKPOINTS)) == curve(machine.run)[-1][0]
