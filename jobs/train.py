"""`python -m jobs.train spec.json`: load, train, evaluate, and always leave result.json.

The folder of spec.json is the run's folder; every file of jobs.layout is written there. Exit
codes: 0 done (gates judged in the result), else the failure's, see jobs/exit_codes.py. A second
start in the same folder continues from the last whole checkpoint, and does nothing when the job is
done.

Started by torchrun or `accelerate launch`, each process is one rank of the job: rank 0 takes the
lock and writes all files. `python -m jobs.distributed` starts them so that one failing ends all.
"""

import fcntl
import os
import sys
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from jobs import checkpoint, layout, notice
from jobs.aside import write_aside
from jobs.attempt import Attempt
from jobs.device import PRETENDED, pretended, require_device
from jobs.exit_codes import EXIT_CODES
from jobs.memory import peak_memory
from jobs.outcome import BadInput, Outcome, Stopped, failure_of
from jobs.progress import Progress
from jobs.ranks import Ranks, die_with_parent, ranks, started_by_us, tell_starter
from jobs.sources import read_wire
from jobs.spec import Failure, ResolvedSpec, Result, encode
from jobs.stop import Stop


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.train spec.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    folder = spec_file.parent
    me = ranks()
    if started_by_us():
        die_with_parent()
    if not me.first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - one job, one voice
    if started_by_us() or not me.first:
        return attempt(spec_file, folder, me)
    lock = hold(folder)
    if lock is None:
        print(f"another job works in {folder}", file=sys.stderr)
        return 2
    with lock:
        return attempt(spec_file, folder, me)


def hold(folder: Path) -> IO[str] | None:
    """The run's lock, kept by the open file; None when another job has it.

    A launcher takes it before this process exists and hands the open file over.
    """
    handed_over = os.environ.pop(layout.LOCK_VARIABLE, None)
    if handed_over is not None:
        return os.fdopen(int(handed_over), "a")
    file = (folder / layout.LOCK).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def attempt(spec_file: Path, folder: Path, me: Ranks) -> int:
    """One attempt at the job, from its spec to its result, which rank 0 leaves."""
    if finished(folder):
        print("this job is done already", flush=True)
        return 0
    outcome = Outcome()
    progress: Progress | None = None

    def give_up(stopped: Stopped) -> None:
        leave(folder, outcome, progress, failure_of(stopped), me)
        os._exit(EXIT_CODES[stopped.reason])

    stop = Stop(give_up)
    failure: Failure | None = None
    try:
        stop.listen(folder / layout.STOP)  # whatever comes from here on leaves a result
        notice.watch(stop)
        if me.first:
            # who started the ranks has removed the wish to stop, and one may have come since
            for earlier in (layout.RESULT, *([] if started_by_us() else [layout.STOP])):
                (folder / earlier).unlink(missing_ok=True)
            if not started_by_us():  # who knows it may stop the job: by now that is listened to
                write_aside(folder / layout.PID, f"{os.getpid()}\n".encode())
        resume = checkpoint.last_complete(folder / layout.CHECKPOINTS, remove=me.first)
        outcome.resumed_from_step = checkpoint.step_of(resume) if resume is not None else 0
        metrics = folder / layout.METRICS if me.first else None
        progress = Progress(metrics, keep_to_step=outcome.resumed_from_step)
        progress.enter("load")
        planned = read_wire(spec_file, ResolvedSpec)
        outcome.run_id = planned.run_id
        job = pretended(planned, os.environ)
        if job != planned:
            outcome.warnings.append(PRETENDED)
        require_planned(job, me)
        stop.until(job.deadline)
        require_device(job)
        run(Attempt(job, folder, resume, progress, outcome, stop, me))
        stop.end()
        progress.enter("done")
    except BaseException as error:
        stop.end()
        failure = failure_of(error)
        print(f"{failure.reason}: {failure.message}\n{failure.traceback}", flush=True)
    leave(folder, outcome, progress, failure, me)
    if progress is not None:
        progress.close()
    if failure is None:
        me.leave()
        return 0
    if not me.first and stop.agreed:  # all ranks stop, and rank 0 says why
        return 0
    return EXIT_CODES[failure.reason]


def finished(folder: Path) -> bool:
    try:
        found = msgspec.json.decode((folder / layout.RESULT).read_bytes(), type=Result)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return found.failure is None


def run(a: Attempt) -> None:
    """The task's stages, one after the other."""
    if a.job.task == "regression":
        from jobs import regression

        regression.run(a)
    else:
        from jobs import sft

        sft.run(a)


def require_planned(job: ResolvedSpec, me: Ranks) -> None:
    if job.processes > 1 and me.count != job.processes:
        raise BadInput(
            f"processes: the spec was planned for {job.processes}, started with {me.count}; "
            "start it with python -m jobs.distributed"
        )


def leave(
    folder: Path,
    outcome: Outcome,
    progress: Progress | None,
    failure: Failure | None,
    me: Ranks,
) -> None:
    """Write result.json, if this is rank 0; tell who started it of a failure."""
    if failure is not None:
        tell_starter(failure)
    if not me.first:
        return
    outcome.peak_memory_bytes, outcome.memory_metric = peak_memory()
    outcome.seconds_by_phase = progress.seconds() if progress is not None else {}
    write_aside(folder / layout.RESULT, encode(outcome.result(failure)))


def end(code: int) -> NoReturn:
    """With the result left behind; what a hanging tracker would do at the end is not waited for."""
    tracking = sys.modules.get("jobs.tracking")
    if tracking is not None and tracking.is_stuck():
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
