"""A container's first process, on this machine: the lock and the signals."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import layout
from jobs.contained import hold
from tests.integration.command import ROOT
from tests.integration.waiting import wait_for

# In place of the job: says that it runs with the lock, then waits for SIGTERM.
JOB = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(32))
os.fstat(int(os.environ["LORALIFT_LOCK_FD"]))
print("the job", *sys.argv[1:], flush=True)
pathlib.Path("ready").touch()
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / layout.SPEC).write_text(json.dumps({"run_id": "run-1"}))
    (tmp_path / "standin.py").write_text(JOB)
    return tmp_path


def start(folder: Path, **variables: str) -> "subprocess.Popen[bytes]":
    path = f"{ROOT}:{folder}"
    command = [sys.executable, "-P", "-m", "jobs.contained", "standin"]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path, **variables}
    )


def test_the_lock_is_held_while_the_job_lives_and_sigterm_is_the_jobs(folder: Path) -> None:
    first = start(folder)
    wait_for((folder / "ready").exists)
    assert hold(folder / layout.LOCK, 0) is None
    first.terminate()
    assert first.wait(300) == 32
    assert (folder / layout.LOG).read_text() == f"the job {layout.SPEC}\n"
    again = hold(folder / layout.LOCK, 0)
    assert again is not None
    os.close(again)


def test_it_waits_for_the_launcher_to_let_go(folder: Path) -> None:
    with open(folder / layout.LOCK, "a") as launcher:
        fcntl.flock(launcher, fcntl.LOCK_EX)
        first = start(folder)
        time.sleep(0.3)
        assert not (folder / "ready").exists()
    wait_for((folder / "ready").exists)
    first.terminate()
    assert first.wait(300) == 32


def test_a_killed_job_leaves_no_answer_where_memory_was_not_the_reason(folder: Path) -> None:
    first = start(folder)
    wait_for((folder / "ready").exists)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert first.wait(300) == 137
    assert not (folder / layout.RESULT).exists()


def test_a_planned_gpu_that_is_not_here_is_the_answer(folder: Path) -> None:
    assert start(folder, LORALIFT_GPUS="GPU-planned").wait(300) == 2
    failure = json.loads((folder / layout.RESULT).read_text())["failure"]
    assert failure["reason"] == "BAD_INPUT"
    assert failure["message"].startswith("GPU-planned was planned, and the container has ")
