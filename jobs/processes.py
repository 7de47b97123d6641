"""The processes of this Linux machine as /proc tells them: who is below whom, what they moved.

Standard library only and Python 3.8 on, see jobs/watchdog.py. Fields: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

_STARTED, _PARENT, _USER, _SYSTEM, _STATE = 19, 1, 11, 12, 0  # of stat, counted after the name
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_ROUNDS = 20  # of stopping; each catches what was started during the one before
_POLL_SECONDS = 0.1


class Process(NamedTuple):
    """One process for good: a number that is used again comes with another start."""

    pid: int
    started: int  # clock ticks after boot


class Spent(NamedTuple):
    """What a process has used so far."""

    cpu_seconds: float
    bytes: int  # by write(2), to files and pipes, and read from disks; not by send(2), to sockets


def identify(pid: int) -> Process | None:
    """The living process of this number; None where there is none."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in ("Z", "X"):
        return None
    return Process(pid, int(fields[_STARTED]))


def alive(process: Process) -> bool:
    return identify(process.pid) == process


def tree(roots: Iterable[Process]) -> set[Process]:
    """Those of `roots` that live, and all that live below them; never this process itself."""
    parents = {}
    living = {}
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields is not None and fields[_STATE] not in ("Z", "X"):
            parents[int(name)] = int(fields[_PARENT])
            living[int(name)] = Process(int(name), int(fields[_STARTED]))
    wanted = set(roots)
    found = {root.pid for root in wanted if living.get(root.pid) == root}
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in found}
        grown = not below <= found
        found |= below
    return {living[pid] for pid in found - {os.getpid()}}


def spent(process: Process) -> Spent:
    """Nothing where it is gone, or may not be looked at."""
    cpu, moved = 0.0, 0
    fields = _stat(process.pid)
    if fields is not None and int(fields[_STARTED]) == process.started:
        cpu = (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_SECOND
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{process.pid}/io") as file:
            counts = dict(line.split(": ") for line in file)
            # Not rchar: a shell that only waits in a loop reads libraries for every `sleep`.
            moved = int(counts["wchar"]) + int(counts["read_bytes"])
    return Spent(cpu, moved)


def send(process: Process, number: int) -> bool:
    """Whether the signal went out: never to another process that has the number by now."""
    if not alive(process):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)
        return True
    return False


def kill(roots: Iterable[Process], seconds: float = 10.0) -> set[Process]:
    """SIGKILL to `roots` and all below them. Returns those that live on after `seconds`."""
    caught: set[Process] = set(roots)
    stopped: set[Process] = set()
    for _ in range(_ROUNDS):  # stopped, none can start another between the look and the kill
        caught = caught | tree(caught)
        if caught <= stopped:
            break
        for process in caught - stopped:
            send(process, signal.SIGSTOP)
        stopped |= caught
    for process in caught:
        send(process, signal.SIGKILL)
    return wait(caught, seconds)


def wait(processes: set[Process], seconds: float) -> set[Process]:
    """Those that still live when all are gone, or `seconds` have passed."""
    until = time.monotonic() + seconds
    left = {process for process in processes if alive(process)}
    while left and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        left = {process for process in left if alive(process)}
    return left


def count(before: dict[Process, Spent], now: dict[Process, Spent]) -> Spent:
    """What was used between two looks; a process that is new has used all that it has."""
    nothing = Spent(0.0, 0)
    cpu = sum(max(0.0, s.cpu_seconds - before.get(p, nothing).cpu_seconds) for p, s in now.items())
    moved = sum(max(0, s.bytes - before.get(p, nothing).bytes) for p, s in now.items())
    return Spent(cpu, moved)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may itself hold blanks and brackets."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
