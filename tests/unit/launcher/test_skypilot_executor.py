"""SkyPilot's refusals in our words, and what it forgets."""

import contextlib
import os
import time
from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import Result, encode
from launcher.errors import NoCapacity, OutsideFailed
from launcher.executors.base import Order
from launcher.executors.claims import hold
from launcher.executors.skypilot import SkyPilotExecutor, _refused
from launcher.executors.skypilot_calls import CallFailed


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


class Machine:
    """A cluster that has had a job: what is asked of it, and what it answers."""

    def __init__(self, cleared: int = 0) -> None:
        self.cleared = cleared
        self.asked: list[tuple[str, dict[str, object]]] = []

    @contextlib.contextmanager
    def keeping_open(self, file: int):
        yield

    def __call__(self, call: str, **arguments: object) -> object:
        self.asked.append((call, arguments))
        known = [{"id": "request-1", "status": "SUCCEEDED", "said": ""}]
        gone = any(asked == "down" for asked, _ in self.asked)
        status = {"cluster": None if gone else "UP", "job": None}
        answers = {"run": [self.cleared, "busy"], "launch": "request-1", "requests": known}
        return (answers | {"status": status}).get(call)

    def submit(self, executor: SkyPilotExecutor, offer) -> str:
        executor._calls = self
        handle = executor.handle_on(executor.handle("first", 1), "second", 1)
        order = Order(spec=None, offer=offer, task="name: second", up_by=None)
        executor.submit(handle, order, lambda line: None)
        return handle


def test_a_machine_that_is_handed_on_is_cleared_first(executor, offer, tmp_path):
    machine = Machine()
    handle = machine.submit(executor, offer)
    assert handle == "skypilot:loralift-first-1/loralift-second-1"
    assert executor.folder(handle) == tmp_path / "loralift" / "work" / "second"
    assert [call for call, _ in machine.asked[:2]] == ["run", "launch"]
    assert machine.asked[0][1]["command"] == "rm -rf ~/loralift/run"
    assert all(given["cluster"] == "loralift-first-1" for _, given in machine.asked)
    executor.look(handle)
    assert ("status", {"cluster": "loralift-first-1", "job": "second"}) in machine.asked
    assert executor.account(handle) is None  # SkyPilot's is of all that the machine did


def test_one_that_cannot_be_cleared_is_taken_down_and_another_is_asked_for(executor, offer):
    machine = Machine(cleared=1)
    with pytest.raises(NoCapacity, match="the job before cannot be cleared away: busy"):
        machine.submit(executor, offer)
    assert "launch" not in [call for call, _ in machine.asked]
    assert "down" in [call for call, _ in machine.asked]


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


class Ending:
    """A cluster that another process takes down while it is asked about: SkyPilot's `down` cancels
    what others ask of the cluster (0.14.1)."""

    def __init__(self, work: Path, by_a_launcher: bool) -> None:
        self._hold = hold(work, 1.0) if by_a_launcher else contextlib.nullcontext()

    def __call__(self, call: str, **arguments: object) -> object:
        if call == "requests":
            return []
        self._hold.__enter__()
        said = "Current 'sky.job_status' request (2e1) is cancelled by another process."
        raise CallFailed(("RequestCancelled", "Exception"), said)


def test_a_machine_that_another_takes_down_during_the_look_is_in_hand(executor):
    handle = executor.handle("my-run", 1)
    work = executor.folder(handle)
    work.mkdir(parents=True)
    executor._calls = Ending(work, by_a_launcher=True)
    sight = executor.look(handle)
    assert (sight.alive, sight.doing) == (True, "in hand")
    executor._calls._hold.__exit__(None, None, None)


def test_a_question_that_nobody_here_has_ended_is_not_answered(executor):
    handle = executor.handle("my-run", 1)
    executor._calls = Ending(executor.folder(handle), by_a_launcher=False)
    with pytest.raises(OutsideFailed, match="cancelled by another process"):
        executor.look(handle)
