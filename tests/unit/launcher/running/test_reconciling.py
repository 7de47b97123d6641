"""What becomes of a run's results and its machine when somebody looks: the ledger and the working
folder are real, the executor is told what it sees."""

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Failure, Result, encode
from launcher import paths
from launcher.errors import NoCapacity, OutsideFailed
from launcher.events import AttemptStarted, MachineChanged, RunCreated, StateChanged
from launcher.executors.base import Sight
from launcher.executors.claims import hold
from launcher.executors.skypilot import starting
from launcher.guard import round_of, watch
from launcher.ledger import Ledger
from launcher.running.clock import clock_of, utc_now
from launcher.running.reconciling import reconcile
from launcher.running.runs import cancel
from launcher.running.starting import unstarted
from launcher.times import stamp
from launcher.types import Plan, Run
from results.stores import open_store
from tests.unit.launcher.plans import dollars
from tests.unit.launcher.renting import rent_from

RUN = "run-1"
DONE = Result(run_id=RUN, status="success", adapter="adapter")
OVER = Sight(alive=False, started=True, result=DONE, billed=True)


class Seen:
    """An executor that sees what it is told to see, and notes what it is asked."""

    poll_seconds = 0.0
    sight = OVER
    asked: list[str]

    def __init__(self) -> None:
        self.asked = []
        self.unreachable = False

    def handle(self, run_id: str, attempt: int) -> str:
        return f"seen:{run_id}-{attempt}"

    def folder(self, handle: str) -> Path:
        return paths.work_folder(RUN)

    def exclusive(self, handle: str, seconds: float):
        from launcher.executors.claims import collecting

        return collecting(self.folder(handle), seconds)

    def look(self, handle: str) -> Sight:
        self.asked.append(f"look {handle}")
        return self.sight

    def bring(self, handle: str, until: datetime) -> None:
        self.asked.append(f"bring {handle}")
        if self.unreachable:
            raise OutsideFailed("no route to the machine")
        (self.folder(handle) / "adapter").mkdir(exist_ok=True)
        (self.folder(handle) / layout.RESULT).write_bytes(encode(DONE))

    def release(self, handle: str) -> None:
        self.asked.append(f"release {handle}")

    def cancel(self, handle: str) -> None:
        self.asked.append(f"cancel {handle}")

    def stop(self, handle: str, why: Failure | None = None) -> None:
        self.asked.append(f"stop {handle}")

    def account(self, handle: str) -> int | None:
        return None


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = Seen()
    rent_from(found, monkeypatch)
    monkeypatch.setattr("launcher.guard.executor", lambda name: found)
    paths.work_folder(RUN).mkdir(parents=True)
    return found


@pytest.fixture
def book(small_plan: Plan, runner: Seen) -> Ledger:
    """A run whose one attempt began a minute ago and was seen running."""
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=stamp(utc_now()))
    return begun(made, "")


def begun(made: Plan, bucket: str) -> Ledger:
    book = Ledger(paths.ledger_file())
    book.append(
        RUN,
        made.created_at,
        RunCreated(plan=made, store="/runs", bucket=bucket),
        attempt(1),
        StateChanged(attempt=1, state="PROVISIONING"),
        MachineChanged(attempt=1, state="UP"),
        StateChanged(attempt=1, state="RUNNING"),
    )
    return book


def attempt(number: int) -> AttemptStarted:
    return AttemptStarted(
        attempt=number, executor="skypilot", handle=f"seen:{RUN}-{number}", provider="runpod",
        instance="4090", microusd_per_hour=740_000,
    )  # fmt: skip


def ended(book: Ledger) -> tuple[Run, tuple]:
    run = reconcile(book, book.run(RUN))
    return run, (run.state, run.reason, run.attempts[-1].machine)


def test_results_are_here_before_the_run_is_said_to_have_ended(book: Ledger, runner: Seen):
    runner.unreachable = True
    with pytest.raises(OutsideFailed, match="no route"):
        reconcile(book, book.run(RUN))
    run = book.run(RUN)
    assert (run.state, run.attempts[-1].machine) == ("RUNNING", "ENDING")
    assert f"release seen:{RUN}-1" not in runner.asked
    runner.unreachable = False
    assert ended(book)[1] == ("SUCCEEDED", None, "GONE")
    assert runner.asked[-2:] == [f"bring seen:{RUN}-1", f"release seen:{RUN}-1"]


def test_a_machine_that_is_half_gone_is_ended_though_it_cannot_be_looked_at(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch
):
    """As where SkyPilot's server ended while it took the machine down."""

    def unseen(handle: str) -> Sight:
        raise OutsideFailed("no runtime there")

    monkeypatch.setattr(runner, "look", unseen)
    with pytest.raises(OutsideFailed, match="no runtime"):
        reconcile(book, book.run(RUN))  # its job may be at work
    book.append(RUN, stamp(utc_now()), MachineChanged(attempt=1, state="ENDING"))
    assert ended(book)[1] == ("SUCCEEDED", None, "GONE")
    assert runner.asked == [f"bring seen:{RUN}-1", f"release seen:{RUN}-1"]


UNSEEN = Sight(alive=False, started=False, result=None, billed=True, reached=False)


def test_a_machine_that_never_had_the_job_is_given_back_without_a_pull(
    small_plan: Plan, runner: Seen
):
    asked_at = stamp(utc_now() - timedelta(minutes=1))
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=asked_at)
    book = Ledger(paths.ledger_file())
    asked = (attempt(1), StateChanged(attempt=1, state="PROVISIONING"))
    book.append(RUN, asked_at, RunCreated(plan=made, store="/runs", bucket=""), *asked)
    runner.sight, runner.unreachable = UNSEEN, True
    run, found = ended(book)
    assert found == ("FAILED", "LOST", "GONE")
    assert run.attempts[-1].egress_microusd == 0
    assert runner.asked == [f"look seen:{RUN}-1", f"release seen:{RUN}-1"]


@pytest.mark.parametrize(
    ("minutes", "stands"),
    [(4, ("PROVISIONING", None, "UP")), (6, ("FAILED", "STALLED", "GONE"))],
)
def test_a_job_that_never_begins_on_a_machine_that_is_up_is_given_up(
    small_plan: Plan, runner: Seen, minutes: int, stands: tuple
):
    """As where SkyPilot's server ended while it handed the job over."""
    up_at = utc_now() - timedelta(minutes=minutes)
    asked_at = stamp(up_at - timedelta(minutes=20))
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=asked_at)
    book = Ledger(paths.ledger_file())
    asked = (attempt(1), StateChanged(attempt=1, state="PROVISIONING"))
    book.append(RUN, asked_at, RunCreated(plan=made, store="/runs", bucket=""), *asked)
    runner.sight = msgspec.structs.replace(starting("queued"), in_line=True)
    assert ended(book)[1] == ("PROVISIONING", None, "UP")  # however long it took to come
    book.append(RUN, stamp(up_at), MachineChanged(attempt=1, state="UP"))
    run, found = ended(book)
    assert found == stands
    assert ("did not begin in 5 min" in (run.message or "")) == run.ended
    assert f"bring seen:{RUN}-1" not in runner.asked


def test_a_result_whose_adapter_is_nowhere_is_lost_and_can_go_on(book: Ledger, runner: Seen):
    folder = paths.work_folder(RUN)
    (folder / layout.RESULT).write_bytes(encode(DONE))  # mirrored; the machine went before the rest
    runner.sight = msgspec.structs.replace(OVER, billed=False)
    assert ended(book)[1] == ("FAILED", "LOST", "GONE")
    assert not (folder / layout.RESULT).exists()
    assert (folder / layout.LOST_RESULT).exists()


def test_what_a_bucket_has_is_fetched_though_the_result_was_seen(
    small_plan: Plan, runner: Seen, tmp_path: Path
):
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=stamp(utc_now()))
    book = begun(made, str(tmp_path / "bucket"))
    store = open_store(str(tmp_path / "bucket"))
    store.put(f"{RUN}/{layout.RESULT}", encode(DONE), None)
    store.put(f"{RUN}/adapter/adapter_config.json", b"{}", None)
    folder = paths.work_folder(RUN)
    (folder / layout.RESULT).write_bytes(encode(DONE))
    runner.sight = msgspec.structs.replace(OVER, billed=False)
    assert ended(book)[1] == ("SUCCEEDED", None, "GONE")
    assert (folder / "adapter" / "adapter_config.json").is_file()


NOTHING = Sight(alive=False, started=False, result=None, billed=False, never_there=True)


def test_one_that_never_was_cost_nothing(small_plan: Plan, runner: Seen):
    before = utc_now() - timedelta(minutes=1)
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=stamp(before))
    book, runner.sight = Ledger(paths.ledger_file()), NOTHING
    provisioning = StateChanged(attempt=1, state="PROVISIONING")
    asked = (RunCreated(plan=made, store="/runs"), attempt(1), provisioning)
    book.append(RUN, made.created_at, *asked)
    run, _ = ended(book)
    assert run.attempts[-1].machine == "GONE"
    assert run.attempts[-1].seconds(utc_now()) == 0.0


def test_one_that_was_seen_and_is_not_known_any_more_is_another_skypilots(
    book: Ledger, runner: Seen
):
    runner.sight = NOTHING
    with pytest.raises(OutsideFailed, match="cannot be seen from here: it may be there"):
        reconcile(book, book.run(RUN))
    run = book.run(RUN)
    assert (run.state, run.attempts[-1].machine) == ("RUNNING", "UP")


def unseen_since(minutes: float, attempt: int = 1) -> None:
    """As if it had first gone unseen so long ago."""
    then = (utc_now() - timedelta(minutes=minutes)).timestamp()
    os.utime(paths.work_folder(RUN) / f"unseen-{attempt}", (then, then))


def test_a_job_that_skypilot_does_not_see_for_a_moment_keeps_its_machine(
    book: Ledger, runner: Seen
):
    """However long ago anything came of it: who looks may have slept."""
    log = paths.work_folder(RUN) / layout.LOG
    log.write_text("step 7")
    os.utime(log, (0, 0))
    runner.sight, runner.unreachable = UNSEEN, True
    for minutes in (0, 9):
        with pytest.raises(OutsideFailed, match="does not see the job of run-1 now"):
            reconcile(Ledger(paths.ledger_file()), book.run(RUN))
        unseen_since(minutes)
    runner.sight = Sight(alive=True, started=True, result=None, billed=True)
    reconcile(book, book.run(RUN))  # seen again: what comes after that counts anew
    runner.sight = UNSEEN
    with pytest.raises(OutsideFailed, match="does not see the job of run-1 now"):
        reconcile(book, book.run(RUN))
    assert set(runner.asked) == {f"look seen:{RUN}-1"}
    assert book.run(RUN).attempts[-1].machine == "UP"


def test_a_machine_that_had_the_job_is_asked_for_it_before_it_goes(book: Ledger, runner: Seen):
    runner.sight, runner.unreachable = UNSEEN, True
    with pytest.raises(OutsideFailed, match="does not see"):
        reconcile(book, book.run(RUN))
    unseen_since(11)
    with pytest.raises(OutsideFailed, match="no route"):
        reconcile(book, book.run(RUN))
    assert f"release seen:{RUN}-1" not in runner.asked
    runner.unreachable = False
    assert ended(book)[1] == ("SUCCEEDED", None, "GONE")
    assert runner.asked[-2:] == [f"bring seen:{RUN}-1", f"release seen:{RUN}-1"]


def test_nor_does_cancel_give_up_what_an_unseen_machine_has(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch
):
    """Which was seen a moment before: its job could not be told to stop."""
    sights = [Sight(alive=True, started=True, result=None, billed=True), UNSEEN]
    monkeypatch.setattr(runner, "look", lambda handle: sights.pop(0))
    runner.unreachable = True
    with pytest.raises(OutsideFailed, match="no route"):
        cancel(RUN)
    assert runner.asked == [f"cancel seen:{RUN}-1", f"bring seen:{RUN}-1"]
    assert book.run(RUN).attempts[-1].machine == "ENDING"


def test_at_the_cap_s_end_nothing_keeps_a_machine(small_plan: Plan, runner: Seen):
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at="2026-11-01T00:00:00+00:00")
    book = begun(made, "")
    runner.sight, runner.unreachable = msgspec.structs.replace(OVER, result=None), True
    assert ended(book)[1] == ("FAILED", "LOST", "GONE")
    assert runner.asked[-2:] == [f"bring seen:{RUN}-1", f"release seen:{RUN}-1"]


def test_what_left_the_machine_is_known_when_it_is_gone(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch
):
    """At worst, as the attempt began, with its checkpoints; without them where the job is done."""

    def egress_of(number: int) -> int:
        return book.run(RUN).attempts[number - 1].egress_microusd

    def again(number: int) -> None:
        started = msgspec.structs.replace(attempt(number), egress_microusd=dollars(2))
        book.append(
            RUN,
            stamp(utc_now()),
            MachineChanged(attempt=number - 1, state="GONE"),
            StateChanged(attempt=number - 1, state="FAILED", reason="LOST"),
            started,
            StateChanged(attempt=number, state="PROVISIONING"),
            StateChanged(attempt=number, state="RUNNING"),
        )

    again(2)
    runner.sight = Sight(alive=False, started=True, result=None, billed=False)
    reconcile(book, book.run(RUN))
    assert egress_of(2) == dollars(2)
    again(3)
    runner.sight, runner.unreachable = UNSEEN, True  # had the job, whatever is seen of it
    with pytest.raises(OutsideFailed, match="does not see"):
        reconcile(book, book.run(RUN))
    unseen_since(11, attempt=3)
    with monkeypatch.context() as leaving_nothing:
        leaving_nothing.setattr(runner, "bring", lambda handle, until: None)
        reconcile(book, book.run(RUN))
    assert egress_of(3) == dollars(2)
    runner.unreachable = False
    again(4)
    runner.sight = OVER
    run, _ = ended(book)
    assert run.state == "SUCCEEDED"
    assert egress_of(4) == 0  # the plan's offer asks nothing for it


def test_nor_does_one_that_was_asked_for_in_vain(book: Ledger, runner: Seen):
    runner.sight = Sight(alive=False, started=False, result=None, billed=False, never_there=True)
    asked_for = book.run(RUN).attempts[-1]
    book.append(RUN, stamp(utc_now()), *unstarted(runner, asked_for, NoCapacity("none is free")))
    run = book.run(RUN)
    assert (run.state, run.reason, run.attempts[-1].machine) == ("FAILED", "NO_CAPACITY", "GONE")
    assert run.attempts[-1].seconds(utc_now()) == 0.0


def test_days_after_it_went_it_costs_what_the_cap_allows(book: Ledger, runner: Seen):
    """Nobody knows better, and its own side may have needed all that was reserved for its end."""
    later = datetime(2036, 1, 1, tzinfo=UTC)  # when SkyPilot noticed
    runner.sight = msgspec.structs.replace(OVER, billed=False, gone_at=stamp(later))
    run, _ = ended(book)
    assert run.attempts[-1].gone_at == stamp(clock_of(book.plan(RUN), run).paid_until)
    assert run.attempts[-1].seconds(later) < 15 * 3600  # $10 at $0.74 an hour


def test_what_another_brings_home_while_it_is_cancelled_is_waited_for(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch
):
    """The launcher that follows sees the job end, too, and may be the first to fetch it."""
    runner.sight = starting("in hand")
    follower = contextlib.ExitStack()
    follower.enter_context(hold(paths.work_folder(RUN), 1.0))

    def fetched(seconds: float) -> None:
        ending = StateChanged(attempt=1, state="CANCELLED", reason="CANCELLED", message="by it")
        book.append(RUN, stamp(utc_now()), MachineChanged(attempt=1, state="GONE"), ending)
        follower.close()

    monkeypatch.setattr("launcher.executors.claims.time.sleep", fetched)
    run = cancel(RUN)
    assert (run.state, run.message, run.attempts[-1].machine) == ("CANCELLED", "by it", "GONE")
    assert runner.asked == [f"look seen:{RUN}-1", f"cancel seen:{RUN}-1"]


@pytest.mark.parametrize("written", [True, False])
def test_one_that_another_takes_home_since_the_look_is_done_where_its_end_is_written(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch, written: bool
):
    monkeypatch.setattr("launcher.running.finishing.A_MOMENT", 0.0)
    run = book.run(RUN)
    gone = MachineChanged(attempt=1, state="GONE")
    if written:
        book.append(RUN, stamp(utc_now()), gone, StateChanged(attempt=1, state="SUCCEEDED"))
    with hold(paths.work_folder(RUN), 1.0):
        sight = msgspec.structs.replace(OVER, billed=False)
        if written:
            assert reconcile(book, run, sight).state == "SUCCEEDED"
        else:
            with pytest.raises(OutsideFailed, match="another process is at work"):
                reconcile(book, run, sight)
    assert book.run(RUN).attempts[-1].machine == ("GONE" if written else "UP")


def test_an_older_attempt_s_machine_is_ended(book: Ledger, runner: Seen):
    book.append(
        RUN,
        stamp(utc_now()),
        MachineChanged(attempt=1, state="UNKNOWN"),
        StateChanged(attempt=1, state="FAILED", reason="NO_CAPACITY"),
        attempt(2),
        StateChanged(attempt=2, state="PROVISIONING"),
        MachineChanged(attempt=2, state="GONE"),
        StateChanged(attempt=2, state="FAILED", reason="NO_CAPACITY"),
    )
    run = reconcile(book, book.run(RUN))
    assert [a.machine for a in run.attempts] == ["GONE", "GONE"]
    assert runner.asked == [f"release seen:{RUN}-1"]


def test_the_guard_ends_what_is_due_before_it_looks_at_anything(small_plan: Plan, runner: Seen):
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at="2026-11-01T00:00:00+00:00")
    book = begun(made, "")
    (said,) = round_of(book)
    assert said == f"{RUN}: its machine is ended, the cap would be reached"
    assert runner.asked == [f"release seen:{RUN}-1"]
    run = book.run(RUN)
    assert (run.state, run.reason) == ("FAILED", "BUDGET_EXCEEDED")


def test_a_guard_s_round_survives_what_one_run_does(book: Ledger, runner: Seen):
    runner.sight = None  # not even a sight: a fault of ours
    (said,) = round_of(book)
    assert said.startswith(f"{RUN}: ")
    assert book.run(RUN).state == "RUNNING"


def test_a_guard_that_watches_outlives_a_round_that_fails(
    book: Ledger, runner: Seen, monkeypatch: pytest.MonkeyPatch
):
    """It is the one side of the cap that is not on the machine."""
    troubles = ["disk I/O error", ""]
    slept: list[float] = []

    def found(self: Ledger) -> list[str]:
        if trouble := troubles.pop(0):
            raise OutsideFailed(f"the ledger cannot be read: {trouble}")
        return []

    monkeypatch.setattr(Ledger, "going_on", found)
    monkeypatch.setattr("launcher.guard.time.sleep", slept.append)
    said = list(watch(book, lambda book: iter(())))
    assert said == [
        f"{RUN}: SUCCEEDED, its machine is gone",
        "this round broke off, the next one is in a minute: the ledger cannot be read: disk I/O "
        "error",
    ]
    assert len(slept) == 1
