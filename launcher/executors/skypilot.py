"""A job on a machine that SkyPilot rents: one cluster for each attempt, named after the run.

The run's folder on this machine mirrors the one over there: log, records and result with every
look, everything when the job has ended. The name is all that is needed to find the job again, so
whatever becomes of the launcher, the next one goes on from here.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import time
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.spec import Failure
from launcher import paths
from launcher.catalog.providers import TO_ENABLE, display_name
from launcher.errors import NoCapacity, OutsideFailed
from launcher.executors.base import GRACE_SECONDS, Executor, Order, Say, Sight, name_of
from launcher.executors.claims import TO_START_SECONDS, hold, wait
from launcher.executors.skypilot_calls import NO_ANSWER, CallFailed, Calls
from launcher.times import stamp_of
from launcher.types import MICROUSD, Offer
from results.collect import FILES, FOLDERS
from results.records import is_at_work, read_result

DOWN_SECONDS = 600.0  # sky down takes 40 s on Slurm (measured); some clouds take minutes
HAND_OVER_SECONDS = 1800.0  # the data goes to SkyPilot's API server first
LAUNCHING = ("PENDING", "WAITING", "RUNNING")  # states of a request that has not ended
# Of one that SkyPilot's API server has forgotten, as it does when it is started again: a worker
# that outlived it may still be at it, or the job may be there already.
LOST, HANDED_OVER = "LOST", "HANDED_OVER"
# How long such a worker has: on Slurm 30 to 114 s lie between request and job (measured, November
# 2026). Assumption for clouds.
LOST_SECONDS = 180.0
# How long a job that has left its result here may go on with uploads: what it made is then fetched
# from its machine. Of one whose API server ended meanwhile SkyPilot may say RUNNING for ever.
ANSWERED_SECONDS = 600.0
WORKING = ("INIT", "PENDING", "SETTING_UP", "RUNNING")  # states of a job that has not ended
IN_LINE = ("INIT", "PENDING")
DOING = {**dict.fromkeys(IN_LINE, "queued"), "SETTING_UP": "setting up"}

_PREFIX = "loralift-"
# What a job leaves that is of use here: to collect, or to go on from.
_LEFT = (*FILES, *FOLDERS, layout.CHECKPOINTS, *layout.RESTART, layout.WATCHDOG_LOG)

# What SkyPilot's errors say, by class or words: (pattern, a failure of capacity, what to do).
_REFUSALS = (
    (r"quota|limit ?exceeded", True, "ask {provider} for a larger quota"),
    (
        r"Credential|CloudUserIdentity|NoCloudAccess|unauthori[sz]ed|\b403\b|forbidden",
        False,
        "{enable}, then `sky check`",
    ),
    (r"manifest unknown|pull access denied|image .*not found", False, "check the image's name"),
    (r"ResourcesUnavailable|ProvisionPrechecks", True, "try again later, or allow more with --on"),
)

# What the client says where its server ended and cannot be started: in 0.14.1 the workers of one
# that was killed hold a port that the next one wants.
_NO_SERVER = "Max retries exceeded|API server process exited"
_LEFT_BY_A_SERVER = (
    "where its API server was killed, its workers keep the next one from starting: end them with "
    "`pkill -f ^SkyPilot:`"
)


class SkyPilotExecutor(Executor):
    poll_seconds = 3.0
    scheme = "skypilot:"
    named = "the cluster is"
    end_seconds = GRACE_SECONDS  # from a stop that was asked for to the job's end

    def __init__(self) -> None:
        self._calls = Calls()

    def handle(self, run_id: str, attempt: int) -> str:
        return f"{self.scheme}{_PREFIX}{run_id}-{attempt}"

    def handle_on(self, held: str, run_id: str, attempt: int) -> str:
        return f"{self.scheme}{cluster_of(held)}/{_PREFIX}{run_id}-{attempt}"

    def folder(self, handle: str) -> Path:
        return paths.work_folder(_run_of(handle))

    def require_ready(self) -> None:
        """Nothing more than SkyPilot itself, which is asked soon enough."""

    def submit(self, handle: str, order: Order, say: Say) -> None:
        assert order.task is not None, "a rented machine has a task"
        cluster, work = cluster_of(handle), self.folder(handle)
        work.mkdir(parents=True, exist_ok=True)
        with hold(work, TO_START_SECONDS) as lock:
            order.require_wanted()
            self.clear(handle)
            task = work / layout.TASK
            task.write_text(order.task, "utf-8")
            say(f"{_asking(handle, order.offer)}; {self.named} {cluster}")
            try:
                if is_handed_on(handle):
                    self._make_room(cluster)
                with self._calls.keeping_open(lock):  # handing over goes on if we are killed
                    request = self._ask(cluster, task)
                self._await_machine(handle, request, order, say)
            except CallFailed as error:
                self.release(handle)
                if is_handed_on(handle):
                    why = f"the machine of the job before does not take it: {str(error)[:300]}"
                    raise NoCapacity(why) from None
                raise _refused(error, order.offer) from None

    def _make_room(self, cluster: str) -> None:
        """The job before is home: nothing of it may be taken for this one's. Raises CallFailed."""
        code, said = self._calls("run", cluster=cluster, command=f"rm -rf {_RUN}")
        if code != 0:
            raise CallFailed(("HandedOn",), f"the job before cannot be cleared away: {said}")

    def _ask(self, name: str, task: Path) -> str:
        return str(self._calls("launch", cluster=name, task=str(task), seconds=HAND_OVER_SECONDS))

    def _await_machine(self, handle: str, request: str, order: Order, say: Say) -> None:
        """Return when the machine is up and the job handed over. Raises CallFailed, NoCapacity."""
        said, lost_at = "", None
        while True:
            try:
                state, news = self._request(handle, request)
            except CallFailed as error:
                if error.kinds != NO_ANSWER:
                    raise
                state, news = "RUNNING", f"{error}; asking again"
            if state in ("SUCCEEDED", HANDED_OVER):
                return
            if state not in (*LAUNCHING, LOST):
                self._calls("outcome", request=request)  # raises its error
                return
            if news and news != said:
                say(said := news)
            if state == LOST:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at >= LOST_SECONDS:
                    raise CallFailed((LOST,), "SkyPilot's API server ended while it was launching")
            if order.up_by is not None and datetime.now(UTC) >= order.up_by:
                with contextlib.suppress(CallFailed):
                    self._calls("abort", request=request)
                self.release(handle)
                raise NoCapacity(
                    f"{_what(order.offer)} was not up by {order.up_by:%H:%M:%S} UTC, which the "
                    "limits allow: given up"
                )
            time.sleep(self.poll_seconds)

    def _request(self, handle: str, request: str) -> tuple[str, str]:
        """A request's state, and what SkyPilot says of its progress."""
        cluster = cluster_of(handle)
        try:
            found = {r["id"]: r for r in self._calls("requests", cluster=cluster)}
        except CallFailed as error:  # that is not the launch's: the server may be starting again
            return "RUNNING", f"{error}; asking again"
        one = found.get(request)
        if one is not None:
            return one["status"], one["said"] or ""
        news = "SkyPilot's API server was started again; waiting for what it had begun"
        with contextlib.suppress(CallFailed):  # not while its machine is half there
            if self._calls("status", cluster=cluster, job=_job_of(handle))["job"] is not None:
                return HANDED_OVER, news
        return LOST, news

    def _launching(self, name: str) -> list[str]:
        """The ids of what was asked to launch it and has not ended."""
        return [r["id"] for r in self._requests(name) if r["status"] in LAUNCHING]

    def _requests(self, name: str) -> Any:
        return self._asked("requests", cluster=name)

    def look(self, handle: str) -> Sight:
        work = self.folder(handle)
        if is_at_work(work):  # by who submits or collects it
            return starting("in hand")
        try:
            return self._seen(handle)
        except OutsideFailed:
            # SkyPilot's `down` cancels what others are asking about the cluster at that moment
            if is_at_work(work):
                return starting("in hand")
            raise

    def _seen(self, handle: str) -> Sight:
        """A look, nobody being at work in the run's folder as it began. Raises OutsideFailed."""
        cluster, work = cluster_of(handle), self.folder(handle)
        launching = self._launching(cluster)  # asked first: it may end between the two
        seen = self._asked("status", cluster=cluster, job=_job_of(handle))
        job = seen["job"]
        if launching and job is None:
            return starting("provisioning")
        if seen["cluster"] is None:
            return self._gone(cluster, work)
        if job is None:
            result = read_result(work)
            return Sight(alive=False, started=False, result=result, billed=True, reached=False)
        self._mirror(cluster, work)
        result = read_result(work)
        answered = result is not None and _age_seconds(work / layout.RESULT) > ANSWERED_SECONDS
        return Sight(
            alive=job in WORKING and not answered,
            started=job not in DOING,
            result=result,
            billed=True,
            doing=DOING.get(job, ""),
            in_line=job in IN_LINE,
            setup_failed=job == "FAILED_SETUP",
        )

    def _gone(self, cluster: str, work: Path) -> Sight:
        account = self._asked("cost", cluster=cluster)
        until = account["until"] if account is not None else None
        return Sight(
            alive=False,
            started=False,
            result=read_result(work),
            billed=False,
            gone_at=stamp_of(until) if until else None,
            never_there=account is None,
        )

    def stop(self, handle: str, why: Failure | None = None) -> None:
        lines = [f"cd {_RUN}"]
        if why is not None:  # jobs/stop.py reads it, as it does the watchdog's
            said = shlex.quote(msgspec.json.encode(why).decode())
            lines.append(f"printf %s {said} > {_ASIDE} && mv {_ASIDE} {layout.STOP}")
        lines.append(f"kill -TERM $(cat {layout.PID})")
        command = " && ".join(lines)
        code, said = self._asked("run", cluster=self._machine(handle), command=command)
        if code != 0:
            raise OutsideFailed(f"there is no job to stop yet: {said}"[:300])

    def _machine(self, handle: str) -> str:
        """The cluster that the job works on now."""
        return cluster_of(handle)

    def cancel(self, handle: str) -> None:
        with contextlib.suppress(OutsideFailed):  # no machine to speak to
            self.stop(handle)
            if wait(lambda: not self.look(handle).alive, self.end_seconds, self.poll_seconds):
                return
        self._end(handle)

    def _end(self, handle: str) -> None:
        """No machine comes any more of what was asked for."""
        for request in self._launching(cluster_of(handle)):
            self._asked("abort", request=request)

    def bring(self, handle: str, until: datetime) -> None:
        cluster, work = cluster_of(handle), self.folder(handle)
        left = (until - datetime.now(UTC)).total_seconds()
        # It must not go by itself while its files are on their way: rsync is no job. A machine that
        # is half gone can neither go by itself nor be told; its files may be there still.
        with contextlib.suppress(OutsideFailed):
            self._asked("stay", cluster=cluster, minutes=max(1, int(left / 60)))
        result = read_result(work)
        if result is not None and result.failure is None:  # a finished job's are of no use
            self._asked("run", cluster=cluster, command=f"rm -rf {_RUN}/{layout.CHECKPOINTS}")
        work.mkdir(parents=True, exist_ok=True)
        self._asked(
            "pull",
            cluster=cluster,
            names=list(_LEFT),
            target=str(work),
            growing=[layout.CHECKPOINTS],
            seconds=max(1.0, left),
        )

    def release(self, handle: str) -> None:
        cluster = cluster_of(handle)
        self._end(handle)  # or the machine would come up after its end
        self._asked("down", cluster=cluster, seconds=DOWN_SECONDS)
        there = self._asked("status", cluster=cluster)["cluster"] is not None
        if there or self._launching(cluster):
            raise OutsideFailed(
                f"the machine of {cluster} may still be there and cost money; look with "
                f"`sky status {cluster}`, end it with `sky down {cluster}`"
            )

    def account(self, handle: str) -> int | None:
        if is_handed_on(handle):  # SkyPilot's is of all jobs that the machine had
            return None
        found = self._cost(handle)
        return None if found is None else round(found["usd"] * MICROUSD)

    def _cost(self, handle: str) -> Any:
        return self._asked("cost", cluster=cluster_of(handle))

    def _mirror(self, cluster: str, work: Path) -> None:
        """Bring what was written since the last look. Others may be looking, too."""
        if not work.is_dir():  # taken home meanwhile
            return
        known = {name: _known(work / name) for name in layout.GROWING}
        files = {**known, layout.RESULT: (0, "")}
        found = self._asked("read", cluster=cluster, files=files)
        for named, content in found.items():
            name, anew = named.removesuffix("!"), named.endswith("!")
            if name == layout.RESULT:
                answer = b64decode(content)
                if not (work / name).exists() or (work / name).read_bytes() != answer:
                    paths.write_aside(work / name, answer)  # its time says since when it is here
                continue
            with open(work / name, "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if anew:
                    file.truncate(0)
                elif os.fstat(file.fileno()).st_size != known[name][0]:
                    continue  # another look brought it
                file.write(b64decode(content))

    def _asked(self, call: str, **arguments: Any) -> Any:
        """A call whose failure is one of the world outside."""
        try:
            return self._calls(call, **arguments)
        except CallFailed as error:
            said = f"SkyPilot could not `{call}`: {error}"[:600]
            if re.search(_NO_SERVER, said):
                said = f"{said[:300]}\n{_LEFT_BY_A_SERVER}"
            raise OutsideFailed(said) from None


_RUN = "~/loralift/run"
_ASIDE = f"{layout.STOP}{layout.TEMPORARY_SUFFIX}"


def cluster_of(handle: str) -> str:
    """SkyPilot's name of the machine; with one that was handed on, of the first attempt on it."""
    return name_of(handle).partition("/")[0]


def is_handed_on(handle: str) -> bool:
    return "/" in handle


def _run_of(handle: str) -> str:
    run_id, _, _ = name_of(handle).rpartition("/")[2].removeprefix(_PREFIX).rpartition("-")
    return run_id


def _job_of(handle: str) -> str | None:
    """Its name among the machine's jobs; None: the machine has no other."""
    return _run_of(handle) if is_handed_on(handle) else None


def _asking(handle: str, offer: Offer) -> str:
    if is_handed_on(handle):
        return "taking the machine of the job before it"
    return f"asking SkyPilot for {_what(offer)}"


def starting(doing: str) -> Sight:
    """Asked for, and not yet at work."""
    return Sight(alive=True, started=False, result=None, billed=True, doing=doing)


def _age_seconds(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _known(path: Path) -> tuple[int, str]:
    """How much of a file is here, bytes, and its SHA-256."""
    content = path.read_bytes() if path.exists() else b""
    return len(content), hashlib.sha256(content).hexdigest()


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
