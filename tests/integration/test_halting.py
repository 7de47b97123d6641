"""What halts a canary's job, on real processes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.running.canary.halting import script
from tests.integration.waiting import wait_for

OURS = f"halted-{os.getpid()}"  # other tests may run on this machine
SLEEPING = (sys.executable, "-c", "import time; time.sleep(600)")
# The first time that it is asked for a state it says that the process runs, as one does that has
# not had its turn since the signal.
GREP = """\
#!/bin/sh
case "$*" in *State:*) mkdir {asked} 2>/dev/null && echo "State: R (running)" && exit ;; esac
exec {grep} "$@"
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process of a run; all are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(run_id: str, *words: str) -> "subprocess.Popen[bytes]":
        spec = json.dumps({"run_id": run_id, "seed": 1}, separators=(",", ":"))
        process = subprocess.Popen([*SLEEPING, *words], env={"LORALIFT_SPEC": spec})
        started.append(process)
        # Popen returns when the program is about to be loaded: /proc may have nothing of it yet
        wait_for(lambda: spec.encode() in Path(f"/proc/{process.pid}/environ").read_bytes())
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_the_script_kills_the_watchdog_and_halts_what_else_is_of_the_run(start: Start) -> None:
    """On real processes; those of another run, and of none, go on."""
    watchdog = start(OURS, "-m", "jobs.watchdog")
    other = start(f"{OURS}0", "-m", "jobs.watchdog")
    assert asked_to_halt(OURS) == ""  # its job has not begun
    assert watchdog.poll() is None
    job = start(OURS, "-m", "jobs.distributed")
    found = json.loads(asked_to_halt(OURS))
    assert found == {"killed": f" {watchdog.pid}", "halted": f" {job.pid}", "moving": ""}
    assert watchdog.wait(60) == -9
    assert "T (stopped)" in Path(f"/proc/{job.pid}/status").read_text()
    assert "T (stopped)" not in Path(f"/proc/{other.pid}/status").read_text()


def test_a_job_that_takes_its_time_to_stop_is_halted_too(start: Start, tmp_path: Path) -> None:
    watchdog, job = start(OURS, "-m", "jobs.watchdog"), start(OURS, "-m", "jobs.train")
    grep = tmp_path / "grep"
    grep.write_text(GREP.format(asked=tmp_path / "asked", grep=shutil.which("grep")))
    grep.chmod(0o755)
    found = json.loads(asked_to_halt(OURS, PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert (tmp_path / "asked").exists()
    assert found == {"killed": f" {watchdog.pid}", "halted": f" {job.pid}", "moving": ""}


def asked_to_halt(run_id: str, **changes: str) -> str:
    environment = os.environ | changes
    command = ["sh", "-c", script(run_id)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
