"""A job on a machine that SkyPilot rents: one cluster for each attempt, named after the run.

The run's folder on this machine mirrors the one over there: log, records and result with every
look, everything when the job has ended. The name is all that is needed to find the job again, so
whatever becomes of the launcher, the next one goes on from here.
"""

import contextlib
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs import layout
from launcher import paths
from launcher.catalog.providers import TO_ENABLE, display_name
from launcher.errors import NoCapacity, OutsideFailed
from launcher.executors.base import Order, Say, Sight
from launcher.executors.claims import collecting, hold, is_held, wait
from launcher.executors.skypilot_calls import NO_ANSWER, CallFailed, Calls
from launcher.types import MICROUSD, Offer
from results.collect import FILES, FOLDERS
from results.records import read_result

GRACE_SECONDS = 150.0  # the job gives itself 120 to finish its step and write its result
DOWN_SECONDS = 600.0  # sky down takes 40 s on Slurm (measured); some clouds take minutes
HAND_OVER_SECONDS = 1800.0  # the data goes to SkyPilot's API server first
PULL_SECONDS = 3600.0  # a whole model over a slow line
LAUNCHING = ("PENDING", "WAITING", "RUNNING")  # states of a request that has not ended
WORKING = ("INIT", "PENDING", "SETTING_UP", "RUNNING")  # states of a job that has not ended
DOING = {"INIT": "queued", "PENDING": "queued", "SETTING_UP": "setting up"}

_PREFIX = "loralift-"
_GROWING = (layout.METRICS, layout.LOG)
# What a job leaves that is of use here: to collect, or to go on from.
_LEFT = (*FILES, *FOLDERS, layout.CHECKPOINTS, *layout.RESTART, layout.WATCHDOG_LOG)

# What SkyPilot's errors say, by class or words: (pattern, a failure of capacity, what to do).
_REFUSALS = (
    (r"quota|limit ?exceeded", True, "ask {provider} for a larger quota"),
    (
        r"Credential|CloudUserIdentity|NoCloudAccess|unauthori[sz]ed|403|forbidden",
        False,
        "{enable}, then `sky check`",
    ),
    (r"manifest unknown|pull access denied|image .*not found", False, "check the image's name"),
    (r"ResourcesUnavailable|ProvisionPrechecks", True, "try again later, or allow more with --on"),
)


class SkyPilotExecutor:
    poll_seconds = 3.0
    scheme = "skypilot:"
    named = "the cluster is"

    def __init__(self) -> None:
        self._calls = Calls()

    def handle(self, run_id: str, attempt: int) -> str:
        return f"{self.scheme}{_PREFIX}{run_id}-{attempt}"

    def folder(self, handle: str) -> Path:
        run_id, _, _ = _cluster(handle).removeprefix(_PREFIX).rpartition("-")
        return paths.work_folder(run_id)

    def clear(self, handle: str) -> None:
        for stale in (layout.RESULT, layout.PID):
            (self.folder(handle) / stale).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, handle: str) -> Iterator[None]:
        with collecting(self.folder(handle)):
            yield

    def require_ready(self) -> None:
        """Nothing more than SkyPilot itself, which is asked soon enough."""

    def submit(self, handle: str, order: Order, say: Say) -> None:
        assert order.task is not None, "a rented machine has a task"
        cluster, work = _cluster(handle), self.folder(handle)
        work.mkdir(parents=True, exist_ok=True)
        with hold(work, seconds=1.0):
            self.clear(handle)
            task = work / layout.TASK
            task.write_text(order.task, "utf-8")
            say(f"asking SkyPilot for {_what(order.offer)}; {self.named} {cluster}")
            try:
                request = self._ask(cluster, task)
                self._await_machine(handle, request, order, say)
            except CallFailed as error:
                self.release(handle)
                raise _refused(error, order.offer) from None

    def _ask(self, name: str, task: Path) -> str:
        return str(self._calls("launch", cluster=name, task=str(task), seconds=HAND_OVER_SECONDS))

    def _await_machine(self, handle: str, request: str, order: Order, say: Say) -> None:
        """Return when the machine is up and the job handed over. Raises CallFailed, NoCapacity."""
        cluster, said = _cluster(handle), ""
        while True:
            try:
                state, news = self._request(cluster, request)
            except CallFailed as error:
                if error.kinds != NO_ANSWER:
                    raise
                state, news = "RUNNING", f"{error}; asking again"
            if state not in LAUNCHING:
                self._calls("outcome", request=request)
                return
            if news and news != said:
                say(said := news)
            if order.up_by is not None and datetime.now(UTC) >= order.up_by:
                with contextlib.suppress(CallFailed):
                    self._calls("abort", request=request)
                self.release(handle)
                raise NoCapacity(
                    f"{_what(order.offer)} was not up by {order.up_by:%H:%M:%S} UTC, which the "
                    "limits allow: given up"
                )
            time.sleep(self.poll_seconds)

    def _request(self, cluster: str, request: str) -> tuple[str, str]:
        """A request's state, and what SkyPilot says of its progress."""
        found = {r["id"]: r for r in self._calls("requests", cluster=cluster)}
        one = found.get(request)
        return (one["status"], one["said"] or "") if one is not None else ("RUNNING", "")

    def _is_launching(self, cluster: str) -> bool:
        return any(r["status"] in LAUNCHING for r in self._asked("requests", cluster=cluster))

    def look(self, handle: str) -> Sight:
        cluster, work = _cluster(handle), self.folder(handle)
        if is_held(work):  # by who submits or collects it
            return Sight(alive=True, started=False, result=None, billed=True, doing="in hand")
        seen = self._asked("status", cluster=cluster)
        if seen["cluster"] is None:
            if self._is_launching(cluster):
                return _starting("provisioning")
            return Sight(
                alive=False,
                started=False,
                result=read_result(work),
                billed=False,
                gone_at=self._gone_at(cluster),
            )
        job = seen["job"]
        if job is None:
            if self._is_launching(cluster):
                return _starting("provisioning")
            return Sight(alive=False, started=False, result=read_result(work), billed=True)
        self._mirror(cluster, work)
        alive = job in WORKING
        return Sight(
            alive=alive,
            started=job not in DOING,
            result=read_result(work),
            billed=True,
            doing=DOING.get(job, ""),
            setup_failed=job == "FAILED_SETUP",
        )

    def stop(self, handle: str) -> None:
        self._asked("run", cluster=self._machine(handle), command=f"cd {_RUN} && {_TERMINATE}")

    def _machine(self, handle: str) -> str:
        """The cluster that the job works on now."""
        return _cluster(handle)

    def cancel(self, handle: str) -> None:
        cluster = _cluster(handle)
        with contextlib.suppress(OutsideFailed):  # no machine to speak to yet
            self.stop(handle)
            if wait(lambda: not self.look(handle).alive, GRACE_SECONDS, self.poll_seconds):
                return
        for request in self._asked("requests", cluster=cluster):
            if request["status"] in LAUNCHING:
                self._asked("abort", request=request["id"])

    def bring(self, handle: str) -> None:
        cluster, work = _cluster(handle), self.folder(handle)
        result = read_result(work)
        if result is not None and result.failure is None:  # a finished job's are of no use
            self._asked("run", cluster=cluster, command=f"rm -rf {_RUN}/{layout.CHECKPOINTS}")
        work.mkdir(parents=True, exist_ok=True)
        self._asked(
            "pull", cluster=cluster, names=list(_LEFT), target=str(work), seconds=PULL_SECONDS
        )

    def release(self, handle: str) -> None:
        cluster = _cluster(handle)
        self._asked("down", cluster=cluster, seconds=DOWN_SECONDS)
        if self._asked("status", cluster=cluster)["cluster"] is not None:
            raise OutsideFailed(
                f"the machine of {cluster} may still be there and cost money; look with "
                f"`sky status {cluster}`, end it with `sky down {cluster}`"
            )

    def account(self, handle: str) -> int | None:
        found = self._asked("cost", cluster=_cluster(handle))
        return None if found is None else round(found["usd"] * MICROUSD)

    def _mirror(self, cluster: str, work: Path) -> None:
        """Bring what was written since the last look."""
        work.mkdir(parents=True, exist_ok=True)
        sizes = {name: _size(work / name) for name in _GROWING}
        found = self._asked("read", cluster=cluster, files={**sizes, layout.RESULT: 0})
        for named, content in found.items():
            name, anew = named.removesuffix("!"), named.endswith("!")
            if name == layout.RESULT:
                paths.write_aside(work / name, b64decode(content))
                continue
            with open(work / name, "wb" if anew else "ab") as file:
                file.write(b64decode(content))

    def _gone_at(self, cluster: str) -> str | None:
        account = self._asked("cost", cluster=cluster)
        if account is None or not account["until"]:
            return None
        at = datetime.fromtimestamp(account["until"], UTC)
        return at.isoformat(timespec="milliseconds")

    def _asked(self, call: str, **arguments: Any) -> Any:
        """A call whose failure is one of the world outside."""
        try:
            return self._calls(call, **arguments)
        except CallFailed as error:
            raise OutsideFailed(f"SkyPilot could not `{call}`: {error}"[:600]) from None


_RUN = "~/loralift/run"
_TERMINATE = f"kill -TERM $(cat {layout.PID})"


def _cluster(handle: str) -> str:
    return handle.partition(":")[2]


def _starting(doing: str) -> Sight:
    return Sight(alive=True, started=False, result=None, billed=True, doing=doing)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _what(offer: Offer) -> str:
    count = f"{offer.count} × " if offer.count > 1 else ""
    spot = " spot" if offer.spot else ""
    return f"{count}{offer.device.name} on {display_name(offer.provider)}{spot}"


def _refused(error: CallFailed, offer: Offer) -> OutsideFailed:
    """SkyPilot's error as one of ours, in one line, with what to do."""
    text = f"{' '.join(error.kinds)} {error}"
    for pattern, capacity, what_to_do in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            enable = TO_ENABLE.get(offer.provider, "mend its credentials")
            do = what_to_do.format(provider=display_name(offer.provider), enable=enable)
            kind = NoCapacity if capacity else OutsideFailed
            return kind(f"{_what(offer)}: {str(error)[:300]}\n{do}")
    return OutsideFailed(f"{_what(offer)}: {str(error)[:400]}\n`sky status` shows what is left")
