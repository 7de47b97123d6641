"""SkyPilot's managed jobs as an executor: which attempts, what is seen, that nothing is left."""

import contextlib
import fcntl
import json
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import yaml

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.notice import NOTICE_VARIABLE
from launcher.errors import BadInput, NoCapacity, OutsideFailed
from launcher.executors import LONG_RUN_HOURS, MANAGED, chosen_executor, managed
from launcher.executors.base import Order
from launcher.executors.managed import ManagedExecutor, recoveries
from launcher.executors.skypilot_calls import CallFailed
from launcher.render import task
from launcher.running.starting import earlier_by
from tests.unit.launcher.plans import TEN, cloud, planned

HANDLE = "managed:loralift-run-1-2"
CLUSTER = "loralift-run-1-2-7"
RECORD = {
    "id": 7,
    "status": "RUNNING",
    "over": False,
    "cluster": CLUSTER,
    "recoveries": 0,
    "ended": None,
    "said": None,
}


@pytest.mark.parametrize(
    ("spot", "hours", "has_store", "name"),
    [
        (True, 0.1, True, "managed"),
        (False, LONG_RUN_HOURS, True, "managed"),
        (False, LONG_RUN_HOURS - 0.1, True, "skypilot"),
        (False, 100.0, False, "skypilot"),  # a recovery would have nothing to go on from
        (True, 0.1, False, "skypilot"),
    ],
)
def test_spot_and_long_runs_are_managed_where_a_store_keeps_them(
    small_plan, spot, hours, has_store, name
):
    there = taking(small_plan, cloud("RTX4090", 0.74, spot=spot), hours)
    assert chosen_executor(there, has_store) == name


def test_a_run_on_this_machine_is_never_managed(small_plan, offer):
    assert chosen_executor(taking(small_plan, offer, 100.0), True) == "process"


def taking(plan, offer, hours):
    """The plan's choice there, for so long."""
    (candidate, *_) = plan.candidates
    (term,) = candidate.estimate.time
    term = msgspec.structs.replace(term, expected_hours=hours)
    estimate = msgspec.structs.replace(candidate.estimate, time=(term,))
    return msgspec.structs.replace(candidate, offer=offer, estimate=estimate)


def test_the_task_of_a_managed_job_says_when_to_start_it_again():
    made = planned([cloud("RTX4090", 0.74)], TEN)
    tree = yaml.safe_load(task(made, made.chosen, managed=True))
    resources = tree["resources"]
    assert NOTICE_VARIABLE in tree["envs"]
    assert resources["job_recovery"] == {
        "strategy": "EAGER_NEXT_REGION",
        "max_restarts_on_errors": 0,
        "recover_on_exit_codes": [EXIT_CODES["PREEMPTED"]],
    }
    assert "autostop" not in resources
    plain = yaml.safe_load(task(made, made.chosen))["resources"]
    assert "job_recovery" not in plain
    assert "autostop" in plain


@pytest.mark.parametrize(("collect_minutes", "earlier"), [(1, 9), (5, 5), (30, 0)])
def test_a_managed_jobs_deadline_leaves_room_for_skypilots_own_autodown(
    small_plan, collect_minutes, earlier
):
    budget = msgspec.structs.replace(small_plan.budget, collect_minutes=collect_minutes)
    made = msgspec.structs.replace(small_plan, budget=budget)
    assert earlier_by(made, MANAGED) == timedelta(minutes=earlier)
    assert earlier_by(made, "skypilot") == timedelta()


class SkyPilot:
    """What SkyPilot would answer, in place of its process, and what it was asked."""

    def __init__(self) -> None:
        self.jobs = [RECORD]  # one answer after the other, the last for ever
        self.controller = {"local": True, "wanted": True, "on": True}
        self.requests = []
        self.clusters = {CLUSTER}
        self.until = None
        self.asked = []

    def __call__(self, call, *, seconds=0.0, **arguments):
        self.asked.append((call, arguments))
        return (
            getattr(self, call)(**arguments)
            if callable(getattr(self, call, None))
            else (getattr(self, call))
        )

    def jobs_queue(self, name):
        assert name == "loralift-run-1-2"
        return self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]

    def jobs_requests(self, name):
        return self.requests

    def jobs_launch(self, name, task):
        return "a-request"

    def keeping_open(self, file):
        return contextlib.nullcontext()

    def abort(self, request):
        return None

    def outcome(self, request):
        return None

    def jobs_cancel(self, id):
        self.jobs = [RECORD | {"status": "CANCELLED", "over": True, "ended": 1000.0}]
        self.clusters.clear()

    def status(self, cluster):
        return {"cluster": "UP" if cluster in self.clusters else None, "job": None, "said": None}

    def down(self, cluster):
        self.clusters.discard(cluster)

    def cost(self, cluster):
        return None if self.until is None else {"usd": 1.0, "seconds": 1, "until": self.until}


@pytest.fixture
def skypilot():
    return SkyPilot()


@pytest.fixture
def runner(skypilot, tmp_path, monkeypatch):
    """An executor whose run has a task, and a folder as its store."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(managed, "DOWN_SECONDS", 0.0)
    made = ManagedExecutor()
    made.poll_seconds = 0.0
    made._calls = skypilot
    work = made.folder(HANDLE)
    assert work.name == "run-1"
    work.mkdir(parents=True)
    (work / layout.TASK).write_text(
        json.dumps({"envs": {"LORALIFT_STORE": str(tmp_path / "store")}})
    )
    (tmp_path / "store" / "run-1").mkdir(parents=True)
    return made


@pytest.fixture
def stored(tmp_path, runner):
    """The run's folder in the store."""
    return tmp_path / "store" / "run-1"


def ended(status):
    return RECORD | {"status": status, "over": True, "ended": 1_800_000_000.0}


def order(up_by=None):
    offer = cloud("RTX4090", 0.74, spot=True)
    return Order(spec=None, offer=offer, task="name: run-1\n", up_by=up_by)


@pytest.mark.parametrize(
    ("status", "doing"),
    [
        ("PENDING", "queued"),
        ("STARTING", "provisioning"),
        ("RUNNING", "setting up"),
        ("RECOVERING", "recovering on another machine"),
    ],
)
def test_what_a_job_does_before_it_trains(runner, skypilot, status, doing):
    skypilot.jobs = [RECORD | {"status": status}]
    sight = runner.look(HANDLE)
    assert (sight.alive, sight.started, sight.billed, sight.doing) == (True, False, True, doing)


def test_records_come_from_the_store_and_grow_in_place(runner, stored):
    metrics = runner.folder(HANDLE) / layout.METRICS
    (stored / layout.METRICS).write_text("one\n")
    assert runner.look(HANDLE).started
    inode = metrics.stat().st_ino
    (stored / layout.METRICS).write_text("one\ntwo\n")
    runner.look(HANDLE)
    assert metrics.read_text() == "one\ntwo\n"
    assert metrics.stat().st_ino == inode  # a reader's place in it holds
    (stored / layout.METRICS).write_text("one\nanother\n")  # cut back by a recovery
    runner.look(HANDLE)
    assert metrics.read_text() == "one\nanother\n"


def test_the_result_of_a_preempted_start_is_not_the_runs(runner, skypilot, stored):
    (stored / layout.RESULT).write_text(
        '{"run_id": "run-1", "status": "error",'
        ' "failure": {"reason": "PREEMPTED", "message": "notice"}}'
    )
    skypilot.jobs = [RECORD | {"status": "RECOVERING", "recoveries": 1}]
    sight = runner.look(HANDLE)
    assert (sight.alive, sight.result) == (True, None)
    assert recoveries(runner.folder(HANDLE)) == 1


def test_an_ended_job_brings_its_result_and_when_its_machine_went(runner, skypilot, stored):
    (stored / layout.RESULT).write_text('{"run_id": "run-1", "status": "success", "steps": 3}')
    skypilot.jobs, skypilot.clusters = [ended("SUCCEEDED")], set()
    skypilot.until = 1_800_000_060
    sight = runner.look(HANDLE)
    assert (sight.alive, sight.billed, sight.result.steps) == (False, False, 3)
    assert datetime.fromisoformat(sight.gone_at) == datetime.fromtimestamp(1_800_000_060, UTC)


def test_a_job_whose_machine_is_still_there_is_billed(runner, skypilot):
    skypilot.jobs = [ended("FAILED_SETUP")]
    sight = runner.look(HANDLE)
    assert (sight.alive, sight.billed, sight.setup_failed, sight.gone_at) == (
        False, True, True, None,
    )  # fmt: skip


def test_a_job_that_is_not_listed_yet_is_being_asked_for(runner, skypilot):
    skypilot.jobs = [None]
    skypilot.requests = [{"id": "r", "status": "RUNNING"}]
    assert runner.look(HANDLE).alive
    skypilot.requests = [{"id": "r", "status": "FAILED"}]
    sight = runner.look(HANDLE)
    assert (sight.alive, sight.billed) == (False, False)


def test_without_consolidation_mode_nothing_is_asked_for(runner, skypilot):
    skypilot.controller = {"local": True, "wanted": None, "on": False}
    with pytest.raises(BadInput, match="consolidation_mode: true"):
        runner.submit(HANDLE, order(), print)
    skypilot.controller = {"local": True, "wanted": True, "on": False}
    with pytest.raises(BadInput, match="sky api stop"):
        runner.submit(HANDLE, order(), print)
    assert {call for call, _ in skypilot.asked} == {"controller"}


def test_submit_returns_when_the_machine_is_up(runner, skypilot):
    skypilot.jobs = [RECORD | {"status": "PENDING"}, RECORD | {"status": "STARTING"}, RECORD]
    runner.submit(HANDLE, order(), print)
    assert [call for call, _ in skypilot.asked].count("jobs_queue") == 3


def test_no_machine_to_be_had_is_no_capacity_and_leaves_nothing(runner, skypilot):
    skypilot.jobs, skypilot.clusters = [ended("FAILED_NO_RESOURCE")], set()
    with pytest.raises(NoCapacity):
        runner.submit(HANDLE, order(), print)


def test_a_machine_that_is_late_is_given_up(runner, skypilot):
    skypilot.jobs = [RECORD | {"status": "STARTING"}]
    with pytest.raises(NoCapacity, match="was not up by"):
        runner.submit(HANDLE, order(up_by=datetime.now(UTC)), print)
    assert ("jobs_cancel", {"id": 7}) in skypilot.asked
    assert not skypilot.clusters


def test_release_takes_down_what_the_controller_left(runner, skypilot):
    skypilot.jobs = [ended("FAILED_CONTROLLER")]
    runner.release(HANDLE)
    assert not skypilot.clusters


def test_release_says_so_where_the_machine_stays(runner, skypilot, monkeypatch):
    skypilot.jobs = [ended("FAILED_CONTROLLER")]
    monkeypatch.setattr(skypilot, "down", lambda cluster: None)
    with pytest.raises(OutsideFailed, match="sky jobs cancel 7"):
        runner.release(HANDLE)


def test_cancel_asks_the_job_first_and_ends_it_where_that_fails(runner, skypilot):
    def unreachable(cluster, command):
        raise CallFailed(("CommandError",), "no machine")

    skypilot.run = unreachable
    runner.cancel(HANDLE)
    assert ("jobs_cancel", {"id": 7}) in skypilot.asked


def test_an_orderly_stop_goes_to_the_machine_of_now(runner, skypilot):
    skypilot.run = lambda cluster, command: [0, ""]
    runner.stop(HANDLE)
    (asked,) = [arguments for call, arguments in skypilot.asked if call == "run"]
    assert asked["cluster"] == CLUSTER
    assert "kill -TERM" in asked["command"]
    skypilot.jobs = [ended("SUCCEEDED")]
    with pytest.raises(OutsideFailed, match="no machine now"):
        runner.stop(HANDLE)


def test_two_that_look_at_once_append_what_is_new_once(tmp_path, monkeypatch):
    log = tmp_path / layout.LOG
    log.write_bytes(b"loading\n")
    waits = threading.Event()
    flock = fcntl.flock

    def locked(file, operation: int) -> None:
        waits.set()
        flock(file, operation)

    monkeypatch.setattr(managed.fcntl, "flock", locked)
    with open(log, "ab") as other:
        flock(other, fcntl.LOCK_EX)
        look = threading.Thread(target=managed._bring_up_to, args=(log, b"loading\nstep 1\n"))
        look.start()
        assert waits.wait(60)
        other.write(b"step 1\n")
    look.join()
    assert log.read_bytes() == b"loading\nstep 1\n"
    managed._bring_up_to(log, b"anew\n")
    assert log.read_bytes() == b"anew\n"
