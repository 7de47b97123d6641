"""`python -m jobs.distributed spec.json`: the job in as many processes as its spec says.

torch's elastic agent (what torchrun and `accelerate launch` run) starts one `jobs.train` a
process and ends them all when one fails; inside, accelerate shares the work. This process is the
job to everyone outside: it holds the lock, its id is in job.pid, SIGTERM to it stops every rank in
order, and it sees to it that there is one result, which names the rank that failed first.

With one process it becomes `jobs.train` itself. On SkyPilot's machines the nodes, this node's
place and the first one's address come from SKYPILOT_* (set by SkyPilot on every node).
"""

import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import psutil

from jobs import layout
from jobs.aside import write_aside
from jobs.device import pretended
from jobs.exit_codes import EXIT_CODES
from jobs.outcome import BadInput, failure_of
from jobs.sources import read_wire
from jobs.spec import Failure, ResolvedSpec, Result, encode
from jobs.stop import why_stopped
from jobs.train import finished, hold

PORT = 29_500  # of the first node, where the others meet it; torchrun's own default
# Longer than a rank gives itself to finish its step and write its result (jobs/stop.py).
SHUTDOWN_SECONDS = 150


@dataclass(frozen=True)
class Nodes:
    """Where this machine stands among those that share the job."""

    count: int
    rank: int
    first_address: str
    processes_here: int


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.distributed spec.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    folder = spec_file.parent
    try:
        job = pretended(read_wire(spec_file, ResolvedSpec), os.environ)
        nodes = nodes_of(job, dict(os.environ))
    except BadInput:
        nodes = None  # jobs.train says it, and leaves the result
    if nodes is None or nodes.count * nodes.processes_here == 1:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "jobs.train", str(spec_file)])
    lock = hold(folder)
    if lock is None:
        print(f"another job works in {folder}", file=sys.stderr)
        return 2
    with lock:
        if finished(folder):
            print("this job is done already", flush=True)
            return 0
        return Ranked(folder, spec_file, job.run_id, nodes).run()


def nodes_of(job: ResolvedSpec, environment: dict[str, str]) -> Nodes:
    """The spec's processes and nodes, or SkyPilot's where the spec leaves both at one.

    Raises `BadInput` where the two disagree, or the processes do not share out evenly.
    """
    on_gpu = job.device == "cuda"  # a job for the processor is one process, whatever is beside it
    addresses = environment.get("SKYPILOT_NODE_IPS", "127.0.0.1").split()
    there = int(environment.get("SKYPILOT_NUM_NODES", "1"))
    gpus = int(environment.get("SKYPILOT_NUM_GPUS_PER_NODE") or "0") if on_gpu else 0
    rank = int(environment.get("SKYPILOT_NODE_RANK", "0"))
    if job.processes == job.nodes == 1:
        return Nodes(there, rank, addresses[0], max(gpus, 1))
    if there not in (1, job.nodes) or (there == 1 and job.nodes > 1):
        raise BadInput(f"nodes: the spec was planned for {job.nodes}, here are {there}")
    if job.processes % job.nodes:
        raise BadInput(f"processes: {job.processes} do not share out to {job.nodes} nodes")
    here = job.processes // job.nodes
    if gpus and here > gpus:
        raise BadInput(f"processes: {here} a node, which has {gpus} GPUs")
    return Nodes(job.nodes, rank, addresses[0], here)


class Ranked:
    """The ranks of this node, from their start to the job's result."""

    def __init__(self, folder: Path, spec_file: Path, run_id: str, nodes: Nodes) -> None:
        self._folder = folder
        self._spec_file = spec_file
        self._run_id = run_id
        self._nodes = nodes
        self._stopped: Failure | None = None

    def run(self) -> int:
        """Start, wait, settle the result. Returns the job's exit code."""
        for earlier in (layout.RESULT, layout.STOP):
            (self._folder / earlier).unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):  # before torch, which takes seconds
            signal.signal(number, self._forward)
        # only now, since who knows it may stop the job
        write_aside(self._folder / layout.PID, f"{os.getpid()}\n".encode())
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        os.environ[layout.RANKS_VARIABLE] = "1"
        failures: dict[int, Any] = {}
        other: Failure | None = None
        command = ["-P", "-m", "jobs.train", str(self._spec_file)]
        # where the ranks leave their last words; torch's own choice stays behind in /tmp
        with tempfile.TemporaryDirectory(prefix="ranks-") as words:
            logs = DefaultLogsSpecs(log_dir=words)
            try:
                settings = LaunchConfig(**self._settings(), logs_specs=logs)
                elastic_launch(settings, sys.executable)(*command)
            except ChildFailedError as error:
                failures = dict(error.failures)
            except Exception as error:  # the ranks never met
                other = failure_of(error)
            failure = root_of(failures) or other
            return settle(self._folder, self._run_id, failure, self._stopped)

    def _settings(self) -> dict[str, Any]:
        nodes = self._nodes
        alone = nodes.count == 1
        return {
            "min_nodes": nodes.count,
            "max_nodes": nodes.count,
            "nproc_per_node": nodes.processes_here,
            "run_id": self._run_id,
            "rdzv_backend": "c10d" if alone else "static",
            "rdzv_endpoint": "localhost:0" if alone else f"{nodes.first_address}:{PORT}",
            "rdzv_configs": {} if alone else {"rank": nodes.rank},
            "max_restarts": 0,  # the run's own resume is the restart
            "shutdown_timeout": SHUTDOWN_SECONDS,
            "signals_to_handle": "SIGHUP",  # the others are ours: the ranks stop by themselves
        }

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._stopped = why_stopped(number, self._folder / layout.STOP)
        reached = 0
        for child in psutil.Process().children():
            try:
                if "RANK" in child.environ():
                    child.send_signal(number)
                    reached += 1
            except psutil.Error:
                continue
        if not reached:  # none has been started yet
            code = settle(self._folder, self._run_id, None, self._stopped)
            sys.stdout.flush()
            os._exit(code)


def root_of(failures: dict[int, Any]) -> Failure | None:
    """What went wrong first, of the ranks that failed; None where rank 0 tells it itself.

    A killed rank left no word: it comes first, since the others fail for want of it. Of those
    that left one, the earliest file counts.
    """
    killed = [
        (rank, failure)
        for rank, failure in failures.items()
        if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM
    ]
    if killed:
        rank, failure = killed[0]
        name = signal.Signals(-failure.exitcode).name
        return Failure(
            reason="ERROR",
            message=f"rank {rank} was killed by {name}; where memory ran out, the kernel does that",
        )
    spoken = [(rank, f) for rank, f in failures.items() if os.path.isfile(f.error_file)]
    if not spoken:
        return None
    rank, first = min(spoken, key=lambda found: os.stat(found[1].error_file).st_mtime_ns)
    if rank == 0:
        return None
    said = first.error_file_data["message"]
    extra = said["extraInfo"]
    return Failure(
        reason=extra["reason"],
        message=f"rank {rank}: {said['message']}",
        traceback=extra["py_callstack"],
    )


def settle(
    folder: Path, run_id: str, failure: Failure | None, stopped: Failure | None = None
) -> int:
    """One result.json: rank 0's, with another rank's failure where that came first. Exit code.

    `stopped`: why the job was told to end; ranks that had just begun leave no result then.
    """
    file = folder / layout.RESULT
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError):
        found = None
    if found is None:
        failure = stopped or failure or Failure(reason="ERROR", message="no rank left a result")
        found = Result(run_id=run_id, status="error", failure=failure)
        write_aside(file, encode(found))
    elif failure is not None and found.failure is not None:
        found = msgspec.structs.replace(found, failure=failure)
        write_aside(file, encode(found))
    if found.failure is None:
        return 0
    print(f"{found.failure.reason}: {found.failure.message}", flush=True)
    return EXIT_CODES[found.failure.reason]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
