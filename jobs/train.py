"""`python -m jobs.train spec.json`: load, train, evaluate, and always leave result.json.

The folder of spec.json is the run's folder; every file of jobs.layout is written there. Exit
codes: 0 done (gates judged in the result), 1 failed, 2 bad input. A second start in the same
folder continues from the last whole checkpoint, and does nothing when the job is done.
"""

import fcntl
import os
import sys
from pathlib import Path
from typing import IO

import msgspec

from jobs import checkpoint, layout
from jobs.attempt import Attempt
from jobs.memory import peak_memory
from jobs.outcome import BadInput, Outcome, Stopped, failure_of, write_aside
from jobs.progress import Progress
from jobs.spec import WIRE_VERSION, Failure, ResolvedSpec, Result, encode
from jobs.stop import Stop


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.train spec.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    folder = spec_file.parent
    lock = hold(folder)
    if lock is None:
        print(f"another job works in {folder}", file=sys.stderr)
        return 2
    with lock:
        write_aside(folder / layout.PID, f"{os.getpid()}\n".encode())
        return attempt(spec_file, folder)


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


def attempt(spec_file: Path, folder: Path) -> int:
    """One attempt at the job, from its spec to its result."""
    outcome = Outcome()
    progress: Progress | None = None

    def give_up(stopped: Stopped) -> None:
        leave(folder, outcome, progress, failure_of(stopped))
        os._exit(1)

    stop = Stop(give_up)
    stop.listen()  # before all else: whatever comes from here on leaves a result
    failure: Failure | None = None
    try:
        if finished(folder):
            print("this job is done already", flush=True)
            return 0
        (folder / layout.RESULT).unlink(missing_ok=True)
        resume = checkpoint.last_complete(folder / layout.CHECKPOINTS)
        outcome.resumed_from_step = checkpoint.step_of(resume) if resume is not None else 0
        progress = Progress(folder / layout.METRICS, keep_to_step=outcome.resumed_from_step)
        progress.enter("load")
        job = read_spec(spec_file)
        outcome.run_id = job.run_id
        stop.until(job.deadline)
        run(Attempt(job, folder, resume, progress, outcome, stop))
        stop.end()
        progress.enter("done")
    except BaseException as error:
        stop.end()
        failure = failure_of(error)
        print(f"{failure.reason}: {failure.message}\n{failure.traceback}", flush=True)
    leave(folder, outcome, progress, failure)
    if progress is not None:
        progress.close()
    if failure is None:
        return 0
    return 2 if failure.reason == "BAD_INPUT" else 1


def finished(folder: Path) -> bool:
    try:
        found = msgspec.json.decode((folder / layout.RESULT).read_bytes(), type=Result)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return found.failure is None


def read_spec(path: Path) -> ResolvedSpec:
    try:
        job = msgspec.json.decode(path.read_bytes(), type=ResolvedSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}") from error
    if job.wire_version != WIRE_VERSION:
        raise BadInput(f"{path}: wire_version {job.wire_version}, this job reads {WIRE_VERSION}")
    return job


def run(a: Attempt) -> None:
    """The task's stages, one after the other."""
    if a.job.task == "regression":
        from jobs import regression

        regression.run(a)
    else:
        from jobs import sft

        sft.run(a)


def leave(
    folder: Path, outcome: Outcome, progress: Progress | None, failure: Failure | None
) -> None:
    """Write result.json."""
    outcome.peak_memory_bytes, outcome.memory_metric = peak_memory()
    outcome.seconds_by_phase = progress.seconds() if progress is not None else {}
    write_aside(folder / layout.RESULT, encode(outcome.result(failure)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
