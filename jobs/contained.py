"""`python -m jobs.contained MODULE`: the first process of a run's container, parent of the job.

Works in the run's folder, the only one that can be written. It takes the run's lock once its
launcher lets go of it and holds it, with the job, for as long as either lives: so the job is seen
from outside whatever becomes of the container engine. Before the job it looks for the GPUs that
were planned; after one that was killed it reads the container's memory events, and where the
kernel ended the job for want of memory it leaves the OUT_OF_MEMORY that the job could not. The exit
code is the job's; 128 + n where signal n ended it.

Standard library only.
"""

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.last_answer import answer, result_mark

GPUS_VARIABLE = "LORALIFT_GPUS"  # NVML's UUIDs of the planned ones, separated by commas
# The launcher lets go as soon as the engine says that the container has started. Assumption.
LOCK_SECONDS = 60.0
# Of cgroups version 2 and 1, as a container sees its own.
MEMORY_EVENTS = ("memory.events", "memory/memory.oom_control")
_UUID_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE of nvml.h


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.contained MODULE", file=sys.stderr)
        return 2
    folder = Path.cwd()
    stale = result_mark(folder)
    run_id = str(json.loads((folder / layout.SPEC).read_bytes())["run_id"])
    lock = hold(folder / layout.LOCK, LOCK_SECONDS)
    if lock is None:
        print(f"another job works in {folder}", file=sys.stderr)
        return 2
    _print_to(folder / layout.LOG)
    missing = wrong_gpus(os.environ.get(GPUS_VARIABLE, ""))
    if missing is not None:
        print(f"BAD_INPUT: {missing}", flush=True)
        answer(folder, run_id, "BAD_INPUT", missing, stale)
        return EXIT_CODES["BAD_INPUT"]
    code = run(arguments[0], lock)
    killed = code == -signal.SIGKILL
    if killed and out_of_memory(Path("/sys/fs/cgroup")):
        message = "the job took more memory than its container may, and the kernel ended it"
        print(f"OUT_OF_MEMORY: {message}", flush=True)
        answer(folder, run_id, "OUT_OF_MEMORY", message, stale)
    return code if code >= 0 else 128 - code


def hold(path: Path, seconds: float) -> int | None:
    """The run's lock, as an open file to be inherited; None where another keeps it for so long."""
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o644)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)


def run(module: str, lock: int) -> int:
    """The job's exit code, negative for the signal that ended it. SIGTERM to this is to the job."""
    os.set_inheritable(lock, True)
    os.environ[layout.LOCK_VARIABLE] = str(lock)
    job: subprocess.Popen[bytes] | None = None
    waiting: list[int] = []

    def forward(number: int, _frame: object) -> None:
        waiting.append(number) if job is None else job.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    command = [sys.executable, "-P", "-m", module, layout.SPEC]
    job = subprocess.Popen(command, close_fds=False)
    for number in waiting:
        job.send_signal(number)
    return job.wait()


def out_of_memory(cgroup: Path, names: Iterable[str] = MEMORY_EVENTS) -> bool:
    """Whether the kernel has ended a process of this container for want of memory."""
    for name in names:
        try:
            found = re.search(r"^oom_kill (\d+)$", (cgroup / name).read_text(), re.MULTILINE)
        except OSError:
            continue
        if found is not None:
            return int(found[1]) > 0
    return False


def wrong_gpus(planned: str) -> str | None:
    """Where the GPUs here are not those of the plan: which are; None where they are."""
    wanted = sorted(filter(None, planned.split(",")))
    if not wanted:
        return None
    try:
        found = sorted(gpus())
    except OSError as error:
        return f"{planned} was planned, and the container has no NVIDIA driver: {error}"
    if found != wanted:
        return f"{planned} was planned, the container has {', '.join(found) or 'no GPU'}"
    return None


def gpus() -> list[str]:
    """The UUIDs of what NVML shows here. Raises OSError where there is no NVML that answers."""
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    _ask(nvml.nvmlInit_v2)
    count = ctypes.c_uint()
    _ask(nvml.nvmlDeviceGetCount_v2, ctypes.byref(count))
    found = []
    for index in range(count.value):
        handle, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(_UUID_BYTES)
        _ask(nvml.nvmlDeviceGetHandleByIndex_v2, ctypes.c_uint(index), ctypes.byref(handle))
        _ask(nvml.nvmlDeviceGetUUID, handle, uuid, ctypes.c_uint(_UUID_BYTES))
        found.append(uuid.value.decode())
    return found


def _ask(function: "ctypes._NamedFuncPointer", *arguments: object) -> None:
    code = function(*arguments)
    if code:
        raise OSError(f"{function.__name__} gave {code}")


def _print_to(log: Path) -> None:
    """From here on what this process and the job print stands in the run's log."""
    sys.stdout.flush()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
