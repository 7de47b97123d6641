"""A job as a child process of the training environment, on this machine.

The job outlives its launcher: it has its own session and log, and a lock that it holds for as
long as it lives. The lock is taken before the child exists and handed to it, so that there is no
moment at which a job runs and nobody can see it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from jobs import layout
from jobs.spec import Failure
from launcher import paths
from launcher.errors import OutsideFailed
from launcher.executors.base import GRACE_SECONDS, Order, Say, Sight
from launcher.executors.claims import TO_START_SECONDS, hold, wait
from launcher.executors.environment import (
    PYTHON_VARIABLE,
    tracker_packages,
    training_python,
)
from launcher.executors.local import LocalExecutor, lay_out
from launcher.types import Offer
from results.records import is_at_work, read_result

_CODE = "code"  # a private copy of the job's package


class ProcessExecutor(LocalExecutor):
    scheme = "process"
    poll_seconds = 0.2

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def require_ready(self) -> None:
        """A process can always be started."""

    def submit(self, handle: str, order: Order, say: Say) -> None:
        work = self.folder(handle)
        work.mkdir(parents=True, exist_ok=True)
        with hold(work, TO_START_SECONDS) as lock:
            order.require_wanted()
            self.clear(handle)
            named = os.environ.get(PYTHON_VARIABLE)
            python = training_python(named, say)
            beside = None
            if order.spec.track is not None and named is None:  # else it must have that itself
                beside = tracker_packages(order.spec.track, python, say)
            _copy_code(work)
            lay_out(work, order.spec)
            module = "jobs.distributed" if order.spec.processes > 1 else "jobs.train"
            self._children[handle] = _spawn(python, module, work, order.offer, lock, beside)

    def look(self, handle: str) -> Sight:
        child = self._children.get(handle)
        if child is not None:
            child.poll()  # reap it
        work = self.folder(handle)
        alive = is_at_work(work)  # before the result is read: a job writes it, then ends
        started = (work / layout.PID).exists()
        return Sight(alive=alive, started=started, result=read_result(work), billed=False)

    def stop(self, handle: str, why: Failure | None = None) -> None:
        _signal(self.folder(handle), signal.SIGTERM)

    def cancel(self, handle: str) -> None:
        work = self.folder(handle)
        if not wait(lambda: (work / layout.PID).exists() or not is_at_work(work), seconds=10.0):
            raise OutsideFailed(
                f"the job in {work} has not begun: the launcher that started it is still setting "
                "up its environment; interrupt that one"
            )
        for what, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 10.0)):
            _signal(work, what)
            if wait(lambda: not self.look(handle).alive, seconds):
                return
        raise OutsideFailed(f"the job in {work} does not end; its process id is in {layout.PID}")


def _copy_code(work: Path) -> None:
    """A private copy of the jobs package, so that the run does not change with the project."""
    shutil.rmtree(work / _CODE, ignore_errors=True)
    shutil.copytree(
        paths.job_code(), work / _CODE / "jobs", ignore=shutil.ignore_patterns("__pycache__")
    )


def _spawn(
    python: Path, module: str, work: Path, offer: Offer, lock: int, beside: Path | None
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        # with -P nothing of the user's folder is imported
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (work / _CODE, beside)))),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        layout.LOCK_VARIABLE: str(lock),
    }
    if offer.device.kind == "cuda":  # the card that was planned, by NVML's number
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment["CUDA_VISIBLE_DEVICES"] = offer.instance.removeprefix("gpu")
    with open(work / layout.LOG, "ab") as log:
        try:
            return subprocess.Popen(
                [str(python), "-P", "-m", module, layout.SPEC],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the launcher's terminal is not for the job
                pass_fds=(lock,),
            )
        except OSError as error:
            raise OutsideFailed(f"cannot start {python}: {error.strerror}") from None


def _signal(work: Path, what: signal.Signals) -> None:
    if not is_at_work(work):  # nobody lives there: the number may be another process's by now
        return
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((work / layout.PID).read_text()), what)
