"""The cap's last hold on the machine: `python3 -m jobs.watchdog --deadline TIME STAGE PID`.

First line of set-up, and again of run (a scheduler may end what set-up left behind). It notes
PID, the shell of this STAGE, and leaves a process of its own session behind that ends the shells
and all below them at the absolute deadline, or when they no longer get on (jobs/stalls.py): the
job by SIGTERM first, which saves its checkpoint and result, then everything by SIGKILL. The
machine's owner (SkyPilot's autodown) sees the job ended and takes the machine. Where the job left
no result.json, the watchdog writes one. What it did stands in run/watchdog.log.

One is alive: a second start with the same deadline and run leaves it, with others replaces it. A
deadline that has passed is refused: nothing may be started. Exit codes: 0 watched, DEADLINE's too
late, 1 no watch could be kept. On Slurm set-up also has Slurm end the machine at LORALIFT_GONE_BY
(jobs/slurm.py).

It runs before any environment exists: standard library only, Python 3.8 on, from the folder that
holds `jobs`. No error in it may cost the deadline: it is logged, and the watch goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from jobs import daemon, layout, processes, slurm
from jobs.aside import write_aside
from jobs.exit_codes import EXIT_CODES
from jobs.last_answer import answer, result_mark
from jobs.processes import Process
from jobs.stalls import Limits, Metrics, Stalls

STAGES = ("setup", "run")
LOCK = "lock"  # names the watchdog that is alive
GONE_BY = "LORALIFT_GONE_BY"  # when autodown has had its time and the machine must be gone
POLL_SECONDS = 5.0
# After SIGTERM: the job ends itself within 120 s (jobs/stop.py). The rest is for writing.
GRACE_SECONDS = 150.0
# After the job, for what the run's script does last: the final upload. Assumption.
LAST_SECONDS = 120.0


class Watch(NamedTuple):
    """What is watched, and for how long. Times are seconds, set by LORALIFT_WATCHDOG_*_SECONDS."""

    home: Path  # ~/loralift
    deadline: str  # ISO 8601 with its offset
    run_id: str
    poll: float = POLL_SECONDS
    grace: float = GRACE_SECONDS
    last: float = LAST_SECONDS
    limits: Limits = Limits()

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def state(self) -> Path:
        """Its own files, for this machine alone: nodes of one job may share a home."""
        return self.home / "watchdog" / (platform.node() or "node")

    @property
    def alive(self) -> Path:
        """What a script touches while it waits for something with good reason."""
        return self.home / layout.ALIVE

    @property
    def seconds_left(self) -> float:
        """To the deadline. Raises ValueError for one that is no ISO 8601 time with an offset."""
        return moment_of(self.deadline).timestamp() - time.time()

    def log(self, line: str) -> None:
        now = datetime.now(timezone.utc)  # noqa: UP017 - new in Python 3.11
        stamp = now.isoformat(timespec="seconds")
        with contextlib.suppress(OSError), open(self.run / layout.WATCHDOG_LOG, "a") as out:
            out.write(f"{stamp} {line}\n")


def moment_of(text: str) -> datetime:
    """Raises ValueError for what is no ISO 8601 time with an offset."""
    at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    return at


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="jobs.watchdog")
    parser.add_argument("--deadline", required=True, help="absolute, ISO 8601 with its offset")
    parser.add_argument("--home", default="~/loralift", help="the folder of code/ and run/")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("pid", type=int, help="of the stage's shell: $$")
    given = parser.parse_args(arguments)
    try:
        watch = _watch(Path(given.home), given.deadline, environment)
        watch.run.mkdir(parents=True, exist_ok=True)
        require_own_folder(watch)
        if watch.seconds_left <= 0:
            message = f"the deadline {watch.deadline} had passed before {given.stage} began"
            answer(watch.run, watch.run_id, "DEADLINE", message, stale=result_mark(watch.run))
            watch.log(message)
            print(f"DEADLINE: {message}", file=sys.stderr)
            return EXIT_CODES["DEADLINE"]
        register(watch.state, given.stage, given.pid)
        duty = {"deadline": watch.deadline, "run_id": watch.run_id}
        daemon.start(watch.state / LOCK, duty, Watchdog(watch).keep)
        if given.stage == "setup" and environment.get(GONE_BY):
            said = slurm.end_by(moment_of(environment[GONE_BY]), environment)
            if said is not None:
                watch.log(said)
        return 0
    except (OSError, ValueError) as error:
        print(f"watchdog: {error}\nnothing is started without it", file=sys.stderr)
        return 1


def _watch(home: Path, deadline: str, environment: Mapping[str, str]) -> Watch:
    def seconds(name: str, default: float) -> float:
        return float(environment.get(f"LORALIFT_WATCHDOG_{name}_SECONDS") or default)

    run_id = ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        run_id = str(json.loads(environment["LORALIFT_SPEC"])["run_id"])
    return Watch(
        home=Path(os.path.abspath(home.expanduser())),
        deadline=deadline,
        run_id=run_id,
        poll=seconds("POLL", POLL_SECONDS),
        grace=seconds("GRACE", GRACE_SECONDS),
        last=seconds("LAST", LAST_SECONDS),
        limits=Limits.of(environment),
    )


def require_own_folder(watch: Watch) -> None:
    """Raises ValueError where another run's files lie: its checkpoints are not this one's."""
    with contextlib.suppress(OSError, KeyError, TypeError, json.JSONDecodeError):
        found = json.loads((watch.run / layout.SPEC).read_text())["run_id"]
        if watch.run_id not in ("", found):
            raise ValueError(
                f"{watch.run} holds run {found}, this is {watch.run_id}: bring that one home and "
                "remove the folder, or take another cluster (sky launch -c NAME)"
            )


def register(state: Path, stage: str, pid: int) -> None:
    """Note the stage's shell. Raises ValueError where no process has this number."""
    found = processes.identify(pid)
    if found is None:
        raise ValueError(f"there is no process {pid} to be watched")
    state.mkdir(parents=True, exist_ok=True)
    write_aside(state / f"{stage}.{pid}.pid", json.dumps(found._asdict()).encode())


def shells(state: Path, stage: str) -> set[Process]:
    """The stage's shells that live. One that has only the number of one is left out."""
    found = set()
    for path in state.glob(f"{stage}.*.pid"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.add(Process(**json.loads(path.read_text())))
    return {process for process in found if processes.alive(process)}


def _pid(run: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((run / layout.PID).read_text())
    return None


class Watchdog:
    """The watch itself, from its start to the end of all that is ours."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._metrics = Metrics(watch.run / layout.METRICS)
        self._stalls = Stalls(watch.limits, time.monotonic())
        # that live below the shells, or were seen there
        self._ours = processes.tree(self._shells())
        self._stale = result_mark(watch.run)  # an earlier attempt's
        self._ran_at: float | None = None  # when the run's shell was last seen

    def keep(self) -> None:
        """Look until the run has ended, or has to be ended."""
        self._watch.log(f"watching until {self._watch.deadline}")
        while True:
            why: tuple[str, str] | None = None
            try:
                if self._relieved():
                    self._watch.log("nothing is left to be watched, or another one does")
                    return
                why = self._look()
                if self._ran_at is not None and self._over():
                    return
            except Exception as error:
                self._watch.log(f"cannot look: {error!r}")
            left = self._watch.seconds_left
            if left <= 0:
                why = "DEADLINE", f"the deadline {self._watch.deadline} has passed"
            if why is not None:
                self._end(*why)
                return
            time.sleep(max(0.0, min(self._watch.poll, left)))

    def _relieved(self) -> bool:
        """Whether its folder is gone with the cluster, or is another watchdog's by now."""
        holder = daemon.holder(self._watch.state / LOCK)
        if holder is None:
            return not self._ours
        return holder.pid != os.getpid()

    def _look(self) -> tuple[str, str] | None:
        """What is there; a reason to end it and one line on it, if there is one."""
        now = time.monotonic()
        running = self._shells("run")
        self._ours = processes.tree(self._ours | self._shells())
        if running:
            self._ran_at = now
        if not self._shells():  # between the two, or after both
            self._stalls = Stalls(self._watch.limits, now)
            return None
        self._metrics.read()
        job = self._job()
        seen = processes.tree([job]) if job is not None else self._ours
        used = {process: processes.spent(process) for process in seen}
        sign = self._watch.alive.stat().st_mtime_ns if self._watch.alive.exists() else None
        metrics = self._metrics if job is not None else None
        stall = self._stalls.look(now, metrics, used, sign)
        return None if stall is None else ("STALLED", stall)

    def _shells(self, *stages: str) -> set[Process]:
        """Of these stages, or of all."""
        return {shell for s in stages or STAGES for shell in shells(self._watch.state, s)}

    def _job(self) -> Process | None:
        """The job, where job.pid names a process of ours."""
        pid = _pid(self._watch.run)
        return next((process for process in self._ours if process.pid == pid), None)

    def _over(self) -> bool:
        """Whether the run's shell is gone for good; what outlives it by the grace is killed."""
        gone_for = time.monotonic() - (self._ran_at or 0.0)
        if self._shells("run") or (self._ours and gone_for <= self._watch.grace):
            return False
        self._watch.log("run has ended")
        if self._ours:
            self._kill_all()
        return True

    def _end(self, reason: str, message: str) -> None:
        """The job, the answer, everything: whatever fails on the way, the next is done."""
        message = f"{message}, in {self._place()}: ended by the watchdog"
        self._watch.log(f"{reason}: {message}")
        worked = bool(self._ours or self._shells())
        job: set[Process] = set()
        with contextlib.suppress(Exception):
            job = processes.tree(filter(None, [self._job()]))
        if job:
            self._try(lambda: self._ask_to_end(job, reason, message))
        if worked:  # before the kill: with the job gone, the run's script brings home what is there
            self._try(lambda: self._answer(reason, message))
        self._try(lambda: processes.kill(job))
        self._try(lambda: processes.wait(self._shells("run"), self._watch.last))
        self._try(self._kill_all)

    def _place(self) -> str:
        with contextlib.suppress(Exception):
            if self._job() is not None:
                return self._metrics.phase or "its start"
            return "set-up" if self._shells("setup") else "run"
        return "an unknown phase"

    def _ask_to_end(self, job: set[Process], reason: str, message: str) -> None:
        """SIGTERM, and the time that the job gives itself for checkpoint and result."""
        said = json.dumps({"reason": reason, "message": message}).encode()
        self._try(lambda: write_aside(self._watch.run / layout.STOP, said))
        first = {p for p in job if p.pid == _pid(self._watch.run)}
        for process in first:
            processes.send(process, signal.SIGTERM)
        for process in job:  # one that was stopped hears nothing before it goes on
            processes.send(process, signal.SIGCONT)
        left = processes.wait(first, self._watch.grace)
        self._watch.log("the job does not end: SIGKILL" if left else "the job has ended")

    def _answer(self, reason: str, message: str) -> None:
        watch = self._watch
        if answer(watch.run, watch.run_id, reason, message, stale=self._stale):
            watch.log(f"the job left no {layout.RESULT}: wrote one")

    def _kill_all(self) -> None:
        left = processes.kill(self._ours | self._shells())
        pids = sorted(process.pid for process in left)
        self._watch.log(f"cannot be killed: {pids}" if left else "nothing of ours is left")

    def _try(self, what: Callable[[], Any]) -> None:
        try:
            what()
        except Exception as error:
            self._watch.log(f"went wrong, going on: {error!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
