"""A job that SkyPilot looks after: when its machine is lost, it is started again elsewhere.

One of SkyPilot's managed jobs for each attempt, named after the run, on whatever machine SkyPilot
has for it now. So what the job writes is read from the run's store, to which each machine brings
it, and a recovery goes on from the last checkpoint there. The deadline is the attempt's: no
recovery moves it.
"""

import fcntl
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jobs import layout
from launcher import paths
from launcher.buckets import open_bucket
from launcher.errors import BadInput, OutsideFailed
from launcher.executors.base import GRACE_SECONDS, Sight, name_of
from launcher.executors.claims import hold, wait
from launcher.executors.skypilot import (
    DOWN_SECONDS,
    HAND_OVER_SECONDS,
    SkyPilotExecutor,
    starting,
)
from launcher.executors.skypilot_calls import CallFailed
from launcher.times import stamp_of
from results.records import read_result

if TYPE_CHECKING:
    from results.stores import Store

# After the job's end: SkyPilot looks at it every 15 s, and the last of it goes up to the store.
END_SECONDS = GRACE_SECONDS + 60.0
UNDER_WAY = "RUNNING"  # of a request
COMING = {"PENDING": "queued", "SUBMITTED": "queued", "STARTING": "provisioning"}
DOING = {**COMING, "RUNNING": "setting up", "RECOVERING": "recovering on another machine"}
# How SkyPilot's word for a job that never started is read: as the error it would have raised.
_UNSTARTED = {
    "FAILED_NO_RESOURCE": "ResourcesUnavailableError",
    "FAILED_PRECHECKS": "ProvisionPrechecksError",
}
_OFF = (
    "managed jobs would pay for a controller machine; put these two lines into ~/.sky/config.yaml, "
    "then `sky api stop`\njobs:\n  controller: {consolidation_mode: true}"
)


class ManagedExecutor(SkyPilotExecutor):
    poll_seconds = 10.0  # the sync brings something new every 30 s
    scheme = "managed:"
    named = "the managed job is"
    end_seconds = END_SECONDS

    def require_ready(self) -> None:
        """Raises BadInput where a managed job would have a controller machine to pay."""
        found = self._asked("controller")
        if found["on"]:
            return
        if found["wanted"]:
            raise BadInput(
                "SkyPilot's server does not know yet that consolidation mode is on\n"
                "`sky api stop`, then `sky api start`"
            )
        raise BadInput(_OFF)

    def _ask(self, name: str, task: Path) -> str:
        self.require_ready()
        return str(self._calls("jobs_launch", name=name, task=str(task), seconds=HAND_OVER_SECONDS))

    def handle_on(self, held: str, run_id: str, attempt: int) -> str:
        raise BadInput(f"{name_of(held)}: SkyPilot's controller ends a managed job's machine")

    def _request(self, handle: str, request: str) -> tuple[str, str]:
        """As a cluster's: under way until the first machine is up."""
        name = name_of(handle)
        job = self._calls("jobs_queue", name=name)
        if job is None:
            found = {r["id"]: r["status"] for r in self._calls("jobs_requests", name=name)}
            failed = found.get(request) in ("FAILED", "CANCELLED")
            return found[request] if failed else UNDER_WAY, ""
        if job["status"] in _UNSTARTED:
            raise CallFailed((_UNSTARTED[job["status"]],), job["said"] or job["status"])
        return UNDER_WAY if job["status"] in COMING else "SUCCEEDED", job["said"] or ""

    def _seen(self, handle: str) -> Sight:
        name, work = name_of(handle), self.folder(handle)
        if not (work / layout.TASK).is_file():
            raise OutsideFailed(
                f"{name} was not submitted from here; look where the run was launched"
            )
        job = self._job(handle)
        if job is None:
            if self._launching(name):
                return starting("queued")
            result = read_result(work)
            return Sight(alive=False, started=False, result=result, billed=False, never_there=True)
        if not job["over"]:
            self._show(work, job)
            started = job["status"] not in COMING and (work / layout.METRICS).exists()
            recovering = job["status"] == "RECOVERING"
            doing = DOING.get(job["status"], "") if recovering or not started else ""
            return Sight(alive=True, started=started, result=None, billed=True, doing=doing)
        with hold(work, seconds=60.0):
            self._show(work, job)  # in place first: who reads them reads on
            self._fetch(work)
        there = self._asked("status", cluster=job["cluster"])["cluster"] is not None
        never = not there and job["status"] in _UNSTARTED and self._cost(handle) is None
        return Sight(
            alive=False,
            started=(work / layout.METRICS).exists(),
            result=read_result(work),
            billed=there,
            setup_failed=job["status"] == "FAILED_SETUP",
            gone_at=None if there else self._gone_after(job),
            never_there=never,
        )

    def bring(self, handle: str, until: datetime) -> None:
        self._fetch(self.folder(handle))

    def release(self, handle: str) -> None:
        """SkyPilot's controller ends the machine with the job; where it does not, we do."""
        self._end(handle)
        job = self._job(handle)
        if job is None:
            return
        cluster = job["cluster"]
        if not job["over"] or not wait(lambda: self._is_gone(cluster), DOWN_SECONDS, 3.0):
            self._asked("down", cluster=cluster, seconds=DOWN_SECONDS)
        if not self._job(handle)["over"] or not self._is_gone(cluster):
            raise OutsideFailed(
                f"the managed job {name_of(handle)} or its machine {cluster} may still be there "
                "and cost money; look with `sky jobs queue`\n"
                f"end it with `sky jobs cancel {job['id']}`"
            )

    def _cost(self, handle: str) -> Any:
        job = self._job(handle)
        return None if job is None else self._asked("cost", cluster=job["cluster"])

    def _requests(self, name: str) -> Any:
        return self._asked("jobs_requests", name=name)

    def _end(self, handle: str) -> None:
        """The managed job is over, or was never taken on, when this returns in time."""
        super()._end(handle)
        job = self._job(handle)
        if job is not None and not job["over"]:
            self._asked("jobs_cancel", id=job["id"])
            wait(lambda: bool(self._job(handle)["over"]), DOWN_SECONDS, 3.0)

    def _job(self, handle: str) -> Any:
        return self._asked("jobs_queue", name=name_of(handle))

    def _machine(self, handle: str) -> str:
        job = self._job(handle)
        if job is None or job["over"]:
            raise OutsideFailed(f"the managed job {name_of(handle)} has no machine now")
        return str(job["cluster"])

    def _is_gone(self, cluster: str) -> bool:
        return self._asked("status", cluster=cluster)["cluster"] is None

    def _gone_after(self, job: dict[str, Any]) -> str | None:
        """When the last machine went; the job's end where SkyPilot kept no account of it."""
        account = self._asked("cost", cluster=job["cluster"])
        ends = [job["ended"], account["until"] if account is not None else None]
        known = [end for end in ends if end]
        if not known:
            return None
        return stamp_of(max(known))

    def _show(self, work: Path, job: dict[str, Any]) -> None:
        """Bring the log and the records as the store has them. Raises OutsideFailed."""
        from results.stores import StoreError

        paths.write_aside(work / layout.MANAGED_JOB, json.dumps(job).encode())
        try:
            store = _store(work)
            for name in layout.GROWING:
                found = store.read(f"{_run_id(work)}/{name}")
                if found is not None:
                    _bring_up_to(work / name, found[0])
        except StoreError as error:
            raise OutsideFailed(str(error)) from None

    def _fetch(self, work: Path) -> None:
        """Bring all that the store has of the run, but what only a restart reads."""
        from results import stored_run
        from results.stores import StoreError

        try:
            stored_run.fetch(_store(work), _run_id(work), work)
        except StoreError as error:
            raise OutsideFailed(str(error)) from None


def recoveries(work: Path) -> int:
    """How often SkyPilot has started the run's job again, as far as it was seen."""
    try:
        return int(json.loads((work / layout.MANAGED_JOB).read_bytes())["recoveries"])
    except FileNotFoundError:
        return 0


def _run_id(work: Path) -> str:
    return work.name


def _store(work: Path) -> "Store":
    """The one that the submitted task names."""
    task = yaml.safe_load((work / layout.TASK).read_text("utf-8"))
    return open_bucket(task["envs"]["LORALIFT_STORE"])


def _bring_up_to(path: Path, content: bytes) -> None:
    """Make the file's content this one; one that only grew is appended to, for its readers. Others
    may be looking, too."""
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = file.read()
        if content.startswith(before):
            file.write(content[len(before) :])
        else:
            paths.write_aside(path, content)
