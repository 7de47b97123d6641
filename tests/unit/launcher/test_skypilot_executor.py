"""SkyPilot's refusals in our words, and its calls through a real child with a small `sky` in it."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import Result, encode
from launcher.catalog.refresh import VARIABLE
from launcher.errors import NoCapacity, OutsideFailed
from launcher.executors.base import Order
from launcher.executors.skypilot import SkyPilotExecutor, _refused
from launcher.executors.skypilot_calls import NO_ANSWER, CallFailed, Calls

# What of SkyPilot the child imports, and three calls: one answers, one raises, one never ends.
SKY = """
import os, time
from sky import exceptions

class Task: ...

def api_cancel(requests):
    return requests[0]

def get(request):
    print("SkyPilot talks on stdout")
    if request == "refused":
        raise exceptions.ResourcesUnavailableError("no node\\n  is free")
    if request == "hang":
        time.sleep(3600)
    if request == "die":
        os._exit(3)
    return request
"""
EXCEPTIONS = """
class ResourcesUnavailableError(Exception): ...
class ClusterDoesNotExist(ValueError): ...
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Calls whose child finds the small `sky`: an interpreter that puts it on its path."""
    package = tmp_path / "sky"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text(SKY)
    (package / "exceptions.py").write_text(EXCEPTIONS)
    for name in ("jobs", "server"):
        (package / name).mkdir()
        (package / name / "__init__.py").write_text("")
    for name in ("skypilot_config", "server/common", "utils/controller_utils"):
        (package / f"{name}.py").write_text("")
    names = "def generate_managed_job_cluster_name(name, job): ..."
    (package / "jobs" / "utils.py").write_text(names)
    (package / "utils" / "__init__.py").write_text("")
    (package / "utils" / "common.py").write_text("")
    (tmp_path / "yaml.py").write_text("")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = Calls()
    yield found
    found._end()


def test_an_answer_and_an_error_come_as_they_are(calls):
    assert calls("outcome", request="fine") is None
    with pytest.raises(CallFailed, match="no node is free") as raised:
        calls("outcome", request="refused")
    assert raised.value.kinds[0] == "ResourcesUnavailableError"
    assert calls("outcome", request="fine") is None  # the same child goes on


def test_one_that_does_not_answer_is_ended_and_the_next_call_has_another(calls):
    with pytest.raises(CallFailed, match="no answer to `outcome`") as raised:
        calls("outcome", request="hang", seconds=0.5)
    assert raised.value.kinds == NO_ANSWER
    assert calls("outcome", request="fine") is None


def test_one_that_dies_is_told_from_one_that_answers(calls):
    with pytest.raises(CallFailed, match="its process ended"):
        calls("outcome", request="die")
    assert calls("outcome", request="fine") is None


def test_an_interrupted_call_leaves_no_answer_to_the_next(calls):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            calls("outcome", request="hang")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls("outcome", request="fine") is None


def test_an_interpreter_without_skypilot_says_so(calls, tmp_path):
    (tmp_path / "sky" / "__init__.py").write_text("raise ImportError('no module named sky')")
    with pytest.raises(CallFailed, match="no module named sky"):
        calls("outcome", request="fine")


def test_nothing_of_the_child_stays(calls, tmp_path):
    calls("outcome", request="fine")
    child, folder = calls._child, Path(calls._folder.name)
    calls._end()
    assert not folder.exists()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, 0)
        pytest.fail(f"{child.pid} lives")


@pytest.mark.parametrize(
    ("kinds", "message", "kind", "says"),
    [
        (
            ("ResourcesUnavailableError", "Exception"),
            "Failed to provision all possible launchable resources.",
            NoCapacity,
            "try again later",
        ),
        (
            ("ResourcesUnavailableError",),
            "vCPU quota exceeded in us-east-1",
            NoCapacity,
            "ask RunPod for a larger quota",
        ),
        (
            ("CloudUserIdentityError",),
            "RunPod API key is invalid",
            OutsideFailed,
            "then `sky check`",
        ),
        (("ClientError",), "403 Forbidden", OutsideFailed, "then `sky check`"),
        (
            ("CommandError",),
            "docker: manifest unknown: x/y:1",
            OutsideFailed,
            "check the image's name",
        ),
        (("ValueError",), "whatever else", OutsideFailed, "`sky status` shows what is left"),
    ],
)
def test_a_refusal_says_what_why_and_what_to_do(offer, kinds, message, kind, says):
    error = _refused(CallFailed(kinds, message), offer)
    assert type(error) is kind
    first, then = str(error).splitlines()
    assert first == f"RTX4090 on RunPod: {message}"
    assert says in then


def test_a_handle_leads_back_to_its_run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    executor = SkyPilotExecutor()
    handle = executor.handle("my-run-1", 12)
    assert handle == "skypilot:loralift-my-run-1-12"
    assert executor.folder(handle) == tmp_path / "loralift" / "work" / "my-run-1"


class Server:
    """SkyPilot's API server, started again after it had taken a request for a launch: it knows
    nothing of that, and a cluster's job only once a worker of the first has brought it there."""

    def __init__(self, *jobs: str | None) -> None:
        self._jobs = list(jobs)
        self.asked: list[str] = []

    @contextlib.contextmanager
    def keeping_open(self, file: int):
        yield

    def __call__(self, call: str, **arguments: object) -> object:
        self.asked.append(call)
        if call == "requests" and self.asked.count("requests") == 1:
            raise CallFailed(("ConnectionError", "OSError"), "connection refused")
        if call == "status" and "down" not in self.asked:
            return {"cluster": "INIT", "job": self._jobs.pop(0) if self._jobs else None}
        return {"launch": "request-1", "requests": [], "status": {"cluster": None}}.get(call)


@pytest.fixture
def executor(monkeypatch, tmp_path) -> SkyPilotExecutor:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = SkyPilotExecutor()
    made.poll_seconds = 0.0
    return made


def submit(executor: SkyPilotExecutor, offer, server: Server) -> list[str]:
    said: list[str] = []
    executor._calls = server
    handle = executor.handle("my-run", 1)
    order = Order(spec=None, offer=offer, task="name: my-run", up_by=None)
    executor.submit(handle, order, said.append)
    return said


def test_a_launch_that_its_server_forgot_is_waited_for(executor, offer):
    server = Server(None, None, "SETTING_UP")
    said = submit(executor, offer, server)
    assert server.asked.count("status") == 3
    assert "down" not in server.asked
    assert "connection refused; asking again" in said[1]
    assert "was started again; waiting for what it had begun" in said[2]


def test_one_that_comes_to_nothing_is_given_up(executor, offer, monkeypatch):
    monkeypatch.setattr("launcher.executors.skypilot.LOST_SECONDS", 0.0)
    server = Server()
    with pytest.raises(OutsideFailed, match="ended while it was launching"):
        submit(executor, offer, server)
    assert "down" in server.asked


@pytest.mark.parametrize(
    ("job", "doing", "in_line"),
    [("PENDING", "queued", True), ("SETTING_UP", "setting up", False), ("RUNNING", "", False)],
)
def test_a_job_is_in_line_until_its_set_up_begins(executor, job, doing, in_line):
    server = executor._calls = Server(job)
    server.asked.append("requests")  # the first of which it refuses
    executor._mirror = lambda cluster, work: None
    sight = executor.look(executor.handle("my-run", 1))
    assert (sight.alive, sight.started, sight.doing) == (True, job == "RUNNING", doing)
    assert sight.in_line is in_line


@pytest.mark.parametrize(("minutes", "alive"), [(9, True), (11, False)])
def test_a_job_that_has_answered_long_ago_is_over_whatever_skypilot_says(executor, minutes, alive):
    server = executor._calls = Server("RUNNING")
    server.asked.append("requests")
    executor._mirror = lambda cluster, work: None
    handle = executor.handle("my-run", 1)
    result = executor.folder(handle) / layout.RESULT
    result.parent.mkdir(parents=True)
    result.write_bytes(encode(Result(run_id="my-run", status="success")))
    then = time.time() - 60 * minutes
    os.utime(result, (then, then))
    sight = executor.look(handle)
    assert (sight.alive, sight.reached, sight.billed) == (alive, True, True)
    assert sight.result is not None


def test_skypilot_runs_in_a_folder_that_stays(calls):
    """What it starts there goes on: its API server."""
    calls("outcome", request="fine")
    folder = Path(f"/proc/{calls._child.pid}/cwd").resolve()
    calls._end()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
