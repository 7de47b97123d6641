"""A process that outlives the shell that started it, one of its kind on a machine.

Standard library only and Python 3.8 on, see jobs/watchdog.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from jobs import processes
from jobs.processes import Process

START_SECONDS = 20.0  # for another one to make way. Assumption


def start(lock_file: Path, duty: dict[str, str], body: Callable[[], None]) -> None:
    """Leave `body` running in a session of its own, unless one with the same duty is alive.

    One with another duty is killed first. Returns once the lock is held. Raises OSError.
    """
    with open(lock_file, "a+") as lock:
        until = time.monotonic() + START_SECONDS
        while not _held(lock):
            lock.seek(0)
            with contextlib.suppress(ValueError, KeyError):  # it has not yet said who it is
                other = json.loads(lock.read())
                if other["duty"] == duty:
                    return
                processes.send(Process(other["pid"], other["started"]), signal.SIGKILL)
            if time.monotonic() > until:
                raise TimeoutError(f"the process that holds {lock_file} does not make way")
            time.sleep(0.1)
        heard, said = os.pipe()
        if os.fork() == 0:
            _begin(lock, duty, said, body)  # never returns
        os.close(said)
        os.wait()
        with os.fdopen(heard, "rb") as answer:
            if not answer.read():
                raise OSError("it ended at once")


def holder(lock_file: Path) -> Process | None:
    """The process that lives behind this lock; None where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        said = json.loads(lock_file.read_text())
        found = Process(said["pid"], said["started"])
        return found if processes.alive(found) else None
    return None


def _held(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin(lock: IO[str], duty: dict[str, str], said: int, body: Callable[[], None]) -> None:
    code = 1
    try:
        _leave_session(said, lock.fileno())
        me = processes.identify(os.getpid())
        assert me is not None, "this process lives"
        lock.truncate(0)
        lock.write(json.dumps({"duty": duty, "pid": me.pid, "started": me.started}))
        lock.flush()
        os.write(said, b"1")
        os.close(said)
        body()
        code = 0
    finally:
        os._exit(code)


def _leave_session(*kept: int) -> None:
    """Become nobody's child, with none of the shell's files open: it must not wait for us."""
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for file in range(3):
        os.dup2(nowhere, file)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-900")  # only root may: the last to go when memory runs out
