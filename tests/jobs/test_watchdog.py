"""The watchdog over real shells in a private home; jobs under it are in test_sky_scripts.py."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import daemon, layout, processes
from jobs.exit_codes import EXIT_CODES
from jobs.processes import Process
from jobs.spec import Result
from jobs.watchdog import LOCK, Watch, register, shells

ROOT = Path(__file__).parents[2]
BOUND_SECONDS = 60.0  # generous: machines are shared

STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("job.pid").write_text(str(os.getpid()))
while True:
    time.sleep(1)
"""
BUSY = """
import os, time
for tenth in range(1, 41):
    open("/dev/null", "wb").write(bytes(2**20))
    open("../clock.new", "w").write(str(tenth / 10))
    os.replace("../clock.new", "../clock")
    time.sleep(0.1)
"""
# A watchdog by a clock that goes on where the test says so: how long a process takes to start, or
# has to wait for a processor, decides nothing then. It is read at the beginning of a look.
BY_THE_CLOCK = """
import os, sys, time
from jobs import watchdog

class Clock:
    sleep, passed = time.sleep, 0.0

    def monotonic(self):
        if os.path.exists("{clock}"):
            self.passed = float(open("{clock}").read())
        return self.passed

    def time(self):
        return time.time() + self.passed

watchdog.time = Clock()
sys.exit(watchdog.main(sys.argv[1:], os.environ))
"""


class Machine:
    """A home with ~/loralift in it, and the stages that were started there."""

    def __init__(self, home: Path) -> None:
        self.loralift = home / "loralift"
        self.run = self.loralift / "run"
        self.run.mkdir(parents=True)
        self.clock = self.loralift / "clock"
        self.started: list[subprocess.Popen] = []

    def stage(
        self, stage: str, script: str, deadline: str, stdin=None, program="-m jobs.watchdog",
        **environment: str,
    ):  # fmt: skip
        """A shell as SkyPilot starts it: the watchdog first, then the script.

        -S: without site-packages, since it runs before any environment is made.
        """
        watch = (
            f"(cd {ROOT} && {sys.executable} -S {program} --home {self.loralift} "
            f"--deadline '{deadline}' {stage} $$) || exit\n"
        )
        settings = {
            "LORALIFT_SPEC": '{"run_id": "r-1"}',
            "LORALIFT_WATCHDOG_POLL_SECONDS": "0.1",
            "LORALIFT_WATCHDOG_GRACE_SECONDS": "1",
            "LORALIFT_WATCHDOG_LAST_SECONDS": "1",
        }
        process = subprocess.Popen(
            ["bash", "-c", f"cd {self.run}\n{watch}{script}"],
            env=os.environ | settings | environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def by_the_clock(self, stage: str, script: str, seconds: float = 600, **environment: str):
        """The same, the deadline so many seconds from now, by this machine's own clock."""
        program = f"-c {shlex.quote(BY_THE_CLOCK.format(clock=self.clock))}"
        return self.stage(stage, script, within(seconds), program=program, **environment)

    def pass_the_deadline(self) -> None:
        """Once there is a watchdog."""
        wait_for(self.dog)
        new = self.clock.with_suffix(".new")
        new.write_text("3600")
        new.replace(self.clock)

    @property
    def watch(self) -> Watch:
        return Watch(self.loralift, deadline="", run_id="r-1")

    def dog(self) -> Process | None:
        """The watchdog that is alive."""
        return daemon.holder(self.watch.state / LOCK)

    def result(self) -> Result:
        return msgspec.json.decode((self.run / layout.RESULT).read_bytes(), type=Result)

    def log(self) -> str:
        return (self.run / layout.WATCHDOG_LOG).read_text()

    def left(self, name: str) -> str:
        """What stands in a file of the run, if it is there."""
        file = self.run / name
        return file.read_text() if file.exists() else ""


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    dog = machine.dog()
    if dog is not None:
        processes.kill([dog])
    for process in machine.started:
        found = processes.identify(process.pid) if process.poll() is None else None
        if found is not None:
            processes.kill([found])
        process.stdout.close()
        process.wait()


def within(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def wait_for(condition):
    until = time.monotonic() + BOUND_SECONDS
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


def test_a_setup_that_hangs_is_ended_at_the_deadline(machine):
    (machine.run / layout.LOG).write_text("Collecting torch\n")
    setup = machine.by_the_clock("setup", "sleep 1000 & sleep 1000")
    machine.pass_the_deadline()
    assert setup.wait(BOUND_SECONDS) == -signal.SIGKILL
    wait_for(lambda: machine.dog() is None)
    found = machine.result()
    assert (found.run_id, found.status, found.failure.reason) == ("r-1", "error", "DEADLINE")
    assert "in set-up: ended by the watchdog" in found.failure.message
    assert "Collecting torch" in found.failure.traceback
    assert "nothing of ours is left" in machine.log()


def test_a_setup_where_nothing_moves_is_a_stall(machine):
    silence = {"LORALIFT_STALL_SILENCE_SECONDS": "1"}
    setup = machine.stage("setup", "while :; do sleep 0.2; done", within(600), **silence)
    assert setup.wait(BOUND_SECONDS) == -signal.SIGKILL
    failure = wait_for(lambda: machine.dog() is None and machine.result().failure)
    assert failure.reason == "STALLED"
    assert "less than 1 MiB moved" in failure.message


def test_a_setup_that_works_is_left_alone(machine):
    silence = {"LORALIFT_STALL_SILENCE_SECONDS": "1"}
    script = f"{sys.executable} -c {shlex.quote(BUSY)}"
    assert machine.by_the_clock("setup", script, **silence).wait(BOUND_SECONDS) == 0
    assert not (machine.run / layout.RESULT).exists()


def test_a_wait_with_good_reason_is_no_stall(machine):
    silence = {"LORALIFT_STALL_SILENCE_SECONDS": "2"}
    script = """for second in $(seq 20); do
        sleep 0.2; touch ../alive; echo $second > ../clock.new; mv ../clock.new ../clock
    done"""
    assert machine.by_the_clock("setup", script, **silence).wait(BOUND_SECONDS) == 0
    assert not (machine.run / layout.RESULT).exists()


def test_a_job_that_does_not_hear_is_killed_and_its_result_written_first(machine):
    """The run's script comes to its end: there it would upload the result."""
    script = f"{sys.executable} -c '{STUBBORN}'; cp result.json uploaded.json; exit 7"
    last = {"LORALIFT_WATCHDOG_LAST_SECONDS": str(BOUND_SECONDS)}
    run = machine.by_the_clock("run", script, **last)
    wait_for(lambda: machine.left(layout.PID))
    machine.pass_the_deadline()
    assert run.wait(BOUND_SECONDS) == 7
    wait_for(lambda: machine.dog() is None)
    assert machine.result().failure.reason == "DEADLINE"
    assert (machine.run / "uploaded.json").read_bytes() == (
        machine.run / layout.RESULT
    ).read_bytes()
    assert "the job does not end: SIGKILL" in machine.log()
    stop = json.loads((machine.run / layout.STOP).read_text())
    assert stop["reason"] == "DEADLINE"


def test_a_run_that_hangs_after_its_job_is_killed(machine):
    run = machine.by_the_clock("run", "echo '{}' > result.json; sleep 1000")
    wait_for(lambda: machine.left(layout.RESULT))
    machine.pass_the_deadline()
    assert run.wait(BOUND_SECONDS) == -signal.SIGKILL


def test_the_deadline_is_kept_whatever_else_fails(machine):
    """Its files cannot be read nor written."""
    for name in (layout.METRICS, layout.RESULT, layout.STOP, layout.PID, layout.LOG):
        (machine.run / name).mkdir()
    run = machine.by_the_clock("run", "sleep 1000")
    machine.pass_the_deadline()
    assert run.wait(BOUND_SECONDS) == -signal.SIGKILL
    wait_for(lambda: machine.dog() is None)
    assert "cannot look: IsADirectoryError" in machine.log()
    assert "went wrong, going on: " in machine.log()


def test_a_number_that_is_used_again_is_not_killed(machine):
    innocent = subprocess.Popen(["sleep", "1000"])
    try:
        register(machine.watch.state, "setup", innocent.pid)
        (noted,) = machine.watch.state.glob("setup.*.pid")
        earlier = json.loads(noted.read_text())
        noted.write_text(json.dumps(earlier | {"started": earlier["started"] - 100}))
        setup = machine.by_the_clock("run", "sleep 1000")
        machine.pass_the_deadline()
        assert setup.wait(BOUND_SECONDS) == -signal.SIGKILL
        wait_for(lambda: machine.dog() is None)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_the_same_watch_is_kept_and_another_takes_its_place(machine):
    deadline = within(600)
    setup = machine.stage("setup", "exit 0", deadline)
    assert setup.wait(BOUND_SECONDS) == 0
    first = machine.dog()
    assert first is not None, "it outlives set-up"
    run = machine.stage("run", "sleep 1000", deadline)
    wait_for(lambda: shells(machine.watch.state, "run"))
    other = machine.stage("setup", "echo started; sleep 1000", deadline)
    assert other.stdout.readline() == b"started\n"
    assert machine.dog() == first
    last = machine.by_the_clock("run", "sleep 1000", seconds=700)
    wait_for(lambda: machine.dog() not in (None, first))
    machine.pass_the_deadline()
    assert [p.wait(BOUND_SECONDS) for p in (run, other, last)] == [-signal.SIGKILL] * 3
    assert not processes.alive(first)


def test_it_goes_when_the_run_has_ended(machine):
    assert machine.stage("run", "exit 3", within(600)).wait(BOUND_SECONDS) == 3
    wait_for(lambda: machine.dog() is None)
    assert "run has ended" in machine.log()
    assert not (machine.run / layout.RESULT).exists()


def test_it_goes_with_its_folder_but_not_from_what_still_runs(machine):
    setup = machine.stage("setup", "read _", within(600), stdin=subprocess.PIPE)
    dog = wait_for(machine.dog)
    shutil.rmtree(machine.watch.state)
    time.sleep(0.5)  # some looks
    assert processes.alive(dog)
    setup.communicate(b"go on\n")
    wait_for(lambda: not processes.alive(dog))


def test_after_the_deadline_nothing_is_started(machine):
    run = machine.stage("run", "touch started", "2026-01-01T00:00:00Z")
    assert run.wait(BOUND_SECONDS) == EXIT_CODES["DEADLINE"]
    assert not (machine.run / "started").exists()
    assert machine.result().failure.message == (
        "the deadline 2026-01-01T00:00:00Z had passed before run began"
    )


@pytest.mark.parametrize("deadline", ["tomorrow", "2099-01-01T00:00:00"])
def test_nothing_is_started_without_it(machine, deadline):
    run = machine.stage("setup", "touch started", deadline)
    assert run.wait(BOUND_SECONDS) == 1
    assert b"nothing is started without it" in run.stdout.read()
    assert not (machine.run / "started").exists()


def test_another_run_s_folder_is_not_taken(machine):
    (machine.run / layout.SPEC).write_text('{"run_id": "r-0"}')
    run = machine.stage("setup", "touch started", within(600))
    assert run.wait(BOUND_SECONDS) == 1
    assert b"holds run r-0, this is r-1" in run.stdout.read()


def test_a_result_that_the_job_left_is_kept(machine):
    left = '{"run_id": "r-1", "status": "error", "failure": {"reason": "ERROR", "message": "x"}}'
    run = machine.by_the_clock("run", f"echo '{left}' > result.json; sleep 1000")
    wait_for(lambda: machine.left(layout.RESULT))
    machine.pass_the_deadline()
    assert run.wait(BOUND_SECONDS) == -signal.SIGKILL
    wait_for(lambda: machine.dog() is None)
    assert machine.result().failure.reason == "ERROR"


def test_an_earlier_attempt_s_failure_is_no_answer(machine):
    left = '{"run_id": "r-1", "status": "error", "failure": {"reason": "ERROR", "message": "x"}}'
    (machine.run / layout.RESULT).write_text(left)
    setup = machine.by_the_clock("setup", "sleep 1000")
    machine.pass_the_deadline()
    assert setup.wait(BOUND_SECONDS) == -signal.SIGKILL
    wait_for(lambda: machine.dog() is None)
    assert machine.result().failure.reason == "DEADLINE"


@pytest.fixture
def scontrol(tmp_path) -> Path:
    """Slurm's, as far as a set-up asks it: it keeps what it was told, and answers."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    said = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$TZ $@" >> {said}; echo no such job; exit $FAILS\n')
    program.chmod(0o755)
    return said


def on_slurm(asked: Path, **more: str) -> dict[str, str]:
    path = f"{asked.parent / 'bin'}:{os.environ['PATH']}"
    gone_by = {"LORALIFT_GONE_BY": "2099-01-01T01:00:00+01:00"}
    return {"PATH": path, "SLURM_JOB_ID": "7", "FAILS": "0", **gone_by, **more}


def test_a_machine_that_is_a_slurm_job_is_ended_by_slurm(machine, scontrol):
    settings = on_slurm(scontrol)
    assert machine.stage("setup", "exit 0", within(600), **settings).wait(BOUND_SECONDS) == 0
    assert scontrol.read_text() == "UTC update JobId=7 EndTime=2099-01-01T00:00:00\n"
    assert "Slurm ends job 7 at 2099-01-01T00:00:00 UTC" in machine.log()
    assert machine.stage("run", "exit 0", within(600), **settings).wait(BOUND_SECONDS) == 0
    assert len(scontrol.read_text().splitlines()) == 1


def test_what_slurm_refuses_is_logged_and_stops_nothing(machine, scontrol):
    setup = machine.stage("setup", "exit 0", within(600), **on_slurm(scontrol, FAILS="1"))
    assert setup.wait(BOUND_SECONDS) == 0
    assert machine.dog() is not None
    assert "Slurm will not end job 7 by itself: no such job" in machine.log()


def test_no_other_machine_asks_slurm(machine, scontrol):
    settings = on_slurm(scontrol, SLURM_JOB_ID="")
    assert machine.stage("setup", "exit 0", within(600), **settings).wait(BOUND_SECONDS) == 0
    assert not scontrol.exists()
