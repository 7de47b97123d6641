"""The environments of local jobs: venvs made from the locks in images/.

requirements.lock is for training; export.lock holds llama.cpp, which export alone needs. Each is
kept by its lock's hash, so that a new lock makes a new one and an old run can be looked at with
the old. Made once under a lock; an interrupted installation is begun again.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jobs.spec import Tracker
from launcher import paths
from launcher.errors import BadInput, OutsideFailed, on_disk
from launcher.tracking import tracker_lock

PYTHON_VARIABLE = "LORALIFT_TRAIN_PYTHON"  # names another interpreter, as --python does
_READY = "ready"  # written last


class Environment(NamedTuple):
    lock: str  # in images/
    purpose: str
    cost: str  # of making it


TRAINING = Environment("requirements.lock", "training", "some minutes and about 2 GB")
EXPORT = Environment("export.lock", "export", "half a minute and 240 MB")


def lock_file(which: Environment = TRAINING) -> Path:
    return paths.packaged("images") / which.lock


def folder(which: Environment = TRAINING) -> Path:
    digest = hashlib.sha256(lock_file(which).read_bytes())
    digest.update(sys.version.encode())
    return paths.environments_folder() / digest.hexdigest()[:16]


def is_ready(which: Environment = TRAINING) -> bool:
    return (folder(which) / _READY).is_file()


def training_python(named: str | None, say: Callable[[str], None]) -> Path:
    """The interpreter that jobs run with: the one `named`, else the kept venv's, made if absent.

    Raises BadInput or OutsideFailed.
    """
    return named_python(named) if named is not None else kept_python(TRAINING, say)


def named_python(named: str) -> Path:
    """The interpreter of that name, or at that path. Raises BadInput where there is none."""
    found = shutil.which(named)
    if found is None:
        raise BadInput(f"--python {named}: no such interpreter; leave it out to have one made")
    return Path(found).absolute()


def kept_python(which: Environment, say: Callable[[str], None]) -> Path:
    """The interpreter of a kept environment, made if absent. Raises OutsideFailed."""
    home = folder(which)
    _once(home, lambda: _make(which, home, say))
    return home / "bin" / "python"


def _once(home: Path, make: Callable[[], None]) -> None:
    """Make the folder unless it is there whole; what an interrupted making left goes first. Raises
    OutsideFailed."""
    ready = home / _READY
    if ready.is_file():
        return
    with on_disk(f"{home} cannot be made"):
        home.parent.mkdir(parents=True, exist_ok=True)
        with open(home.parent / f"{home.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # someone else may be making it: wait
            if not ready.is_file():
                shutil.rmtree(home, ignore_errors=True)
                make()
                ready.touch()


def tracker_packages(tracker: Tracker, python: Path, say: Callable[[str], None]) -> Path:
    """A folder of what the tracker needs beside the kept environment, made if absent: for the end
    of PYTHONPATH. It has nothing of what the environment itself has. Raises OutsideFailed."""
    lock = tracker_lock(tracker)
    digest = hashlib.sha256(lock.read_bytes())
    digest.update(folder(TRAINING).name.encode())
    home = paths.environments_folder() / f"{tracker}-{digest.hexdigest()[:16]}"

    def add() -> None:
        say(f"adding {tracker} beside the training environment, in {home} (once)")
        what = ["--no-deps", "--target", str(home), "-r", str(lock)]
        _pip(python, what, f"get what --track {tracker} needs", "leave --track away")

    _once(home, add)
    return home


def _make(which: Environment, home: Path, say: Callable[[str], None]) -> None:
    import venv  # 3 ms, and most commands make none

    say(f"making the {which.purpose} environment in {home} (once, {which.cost})")
    try:
        venv.create(home, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OutsideFailed(
            f"no virtual environment could be made in {home}: {error}\n"
            "on Debian: apt-get install python3-venv; or name an interpreter with --python"
        ) from None
    names = [line for line in lock_file(which).read_text().splitlines() if line[:1].isalnum()]
    torch = [name for name in names if name.startswith("torch==")]
    # torch first: resolved together with the rest, pip would prefer its newest build.
    for what in filter(None, (torch, ["-r", str(lock_file(which))])):
        say(f"installing {what[0] if len(what) == 1 else 'the rest of the lock'}")
        python, purpose = home / "bin" / "python", f"make the {which.purpose} environment"
        _pip(python, what, purpose, "name an interpreter that has it with --python")


def _pip(python: Path, what: list[str], purpose: str, otherwise: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise OutsideFailed(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise OutsideFailed(
            f"pip could not {purpose}: {last}\n"
            f"command: {' '.join(command)}\n"
            f"mend that and run again, or {otherwise}"
        )


if __name__ == "__main__":  # for scripts and the Makefile: make it, print its interpreter
    print(training_python(None, lambda line: print(line, file=sys.stderr)))  # noqa: T201
