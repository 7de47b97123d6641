"""What somebody stops stays stopped: between two rungs, or offers, or before a machine comes."""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.spec import Provenance
from launcher import api, cli, climbing, paths
from launcher.errors import BadInput, NoCapacity, OutsideFailed
from launcher.events import MachineChanged, StateChanged
from launcher.executors.base import Order, Sight
from launcher.executors.claims import hold
from launcher.running import resuming, runs, starting
from launcher.running.climbs import carried_on, decide
from launcher.running.clock import utc_now
from launcher.running.next_offer import Place
from launcher.running.reconciling import ledger
from launcher.times import stamp
from launcher.types import Candidate, Step
from tests.unit.launcher.renting import Rented, climb_on, end, ended_unseen, first, planned, runner

__all__ = ["runner"]  # the fixture
GO_ON = ["train", "--run-id", "climb", "--yes"]


def test_a_climb_that_waits_is_cancelled_by_any_of_its_runs(runner: Rented) -> None:
    first()
    end("climb", 0.87, 0.1)
    climb_on()
    end("climb-2", 0.5, 0.1)
    assert climbing.cancel("climb").run_id == "climb-2"
    assert ledger().undecided() == []
    with pytest.raises(BadInput, match="has ended already"):
        climbing.cancel("climb")


def test_a_climb_that_is_cancelled_between_two_rungs_rents_nothing(runner: Rented) -> None:
    first()
    end("climb", 0.87, 0.1)
    ready = climbing.next_of("climb", lambda _: None)
    climbing.cancel("climb")
    with pytest.raises(BadInput, match="nothing comes after run climb: cancelled"):
        climbing.go_on(ready, lambda _: None)
    late = climbing.next_of("climb", lambda _: None)  # who follows it and had not looked yet
    assert (late.step.move, late.step.why) == ("stop", "cancelled")
    assert ledger().find("climb-2") is None
    assert ledger().undecided() == []


def test_a_climb_that_is_cancelled_as_its_rung_is_submitted_rents_nothing(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    end("climb", 0.87, 0.1)
    monkeypatch.setattr(Rented, "require_ready", lambda self: climbing.cancel("climb"))
    with pytest.raises(BadInput, match="nothing comes after run climb: cancelled"):
        climb_on()
    assert ledger().find("climb-2") is None
    assert ledger().undecided() == []


def test_who_knows_of_the_stop_goes_on_in_spite_of_it(runner: Rented) -> None:
    first()
    end("climb", 0.87, 0.1)
    climbing.cancel("climb")
    stood = climbing.decision("climb")
    ready = climbing.next_of("climb", lambda _: None, stood)
    assert climbing.go_on(ready, lambda _: None) == "climb-2"


def test_a_run_that_was_stopped_meanwhile_is_not_resumed(runner: Rented) -> None:
    made, book = first(), ledger()
    assert made.chosen is not None
    end("climb", 0.0, 0.1, "PREEMPTED")
    climbing.cancel("climb")
    stood = climbing.decision("climb")
    ready = resuming.Resumption(book.run("climb"), made, Place(0, made.chosen), [], 0.0, stood)
    decide(book, "climb", Step(move="stop", why="not wanted"))
    with pytest.raises(BadInput, match="nothing comes after run climb: not wanted"):
        resuming.resume(ready, lambda _: None)
    assert len(runner.orders) == 1
    resuming.resume(ready._replace(stood=climbing.decision("climb")), lambda _: None)
    assert len(runner.orders) == 2
    assert climbing.decision("climb") is None  # it was of the start before


def test_a_launcher_that_nobody_asked_goes_on_in_spite_of_no_stop(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard has started it, and somebody cancels before it has looked."""
    monkeypatch.setenv("LORALIFT_UNASKED", "1")
    first()
    end("climb", 0.87, 0.1)
    climbing.cancel("climb")
    assert climbing.decision("climb") is None
    assert climbing.next_of("climb", lambda _: None, climbing.decision("climb")).step.move == "stop"


def test_nor_does_it_resume_what_was_cancelled(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORALIFT_UNASKED", "1")
    first()
    gone = MachineChanged(attempt=1, state="GONE")
    cancelled = StateChanged(attempt=1, state="CANCELLED", reason="CANCELLED")
    ledger().append("climb", stamp(utc_now()), gone, cancelled)
    with pytest.raises(BadInput, match="run climb was cancelled"):
        resuming.resumption("climb", lambda _: None)


def test_a_climb_whose_run_ended_unseen_is_cancelled(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    ended_unseen("climb", monkeypatch)
    assert climbing.cancel("climb").reason == "GATE_FAILED"
    assert ledger().undecided() == []
    assert list(carried_on(ledger())) == []


def test_a_run_that_cannot_be_cancelled_now_leads_nowhere_all_the_same(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(run_id: str) -> None:
        raise OutsideFailed("the API server is away")

    first()
    monkeypatch.setattr(api, "cancel", failing)
    with pytest.raises(OutsideFailed):
        climbing.cancel("climb")
    end("climb", 0.87, 0.1)
    assert ledger().undecided() == []


def test_a_rung_whose_start_got_no_answer_is_not_taken_for_over(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(self: Rented, handle: str, order: Order, say: Callable[[str], None]) -> None:
        raise OutsideFailed("docker inspect gave no answer in 10 s")

    first()
    end("climb", 0.5, hours=0.1, reason="OUT_OF_MEMORY")
    monkeypatch.setattr(Rented, "submit", unanswered)
    monkeypatch.setattr(api, "collect", lambda run_id: None)
    failed = CliRunner().invoke(cli.launch, GO_ON)
    assert isinstance(failed.exception, OutsideFailed)
    said = str(failed.exception)
    assert said.startswith("climb-2 may be under way: docker inspect gave no answer in 10 s")
    assert "launch guard" in said


NEVER = Sight(alive=False, started=False, result=None, billed=False, never_there=True)


UP = Sight(alive=True, started=True, result=None, billed=True)


def test_what_is_cancelled_between_two_offers_rents_no_other(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def submit(self: Rented, handle: str, order: Order, say: Callable[[str], None]) -> None:
        asked.append(handle)
        raise NoCapacity("none is free")

    def prices(candidate: Candidate, *_: object) -> Candidate:
        if len(asked) == 1 and ledger().decided("climb") is None:
            climbing.cancel("climb")
        return candidate

    monkeypatch.setattr(Rented, "submit", submit)
    monkeypatch.setattr(Rented, "look", lambda self, handle: NEVER)
    monkeypatch.setattr("launcher.running.next_offer.rentable", prices)
    with climbing.at_it("climb"), pytest.raises(BadInput, match="cancelled"):
        first()
    assert len(asked) == len(ledger().run("climb").attempts) == 1


def test_what_ran_out_of_capacity_for_good_is_not_cancelled(runner: Rented) -> None:
    runs.submit(planned(), "runs", lambda _: None)
    end("climb", 0.5, 0.1, "NO_CAPACITY")
    with pytest.raises(BadInput, match="has ended already"):
        climbing.cancel("climb")


def test_what_is_cancelled_before_its_machine_is_asked_for_gets_none(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rented, "look", lambda self, handle: NEVER)
    monkeypatch.setattr(Rented, "cancel", lambda self, handle: None, raising=False)
    real = starting.provenance

    def cancelled_meanwhile(*arguments: Any) -> Provenance:
        runs.cancel("climb")
        assert ledger().run("climb").attempts[0].machine == "GONE"
        return real(*arguments)

    monkeypatch.setattr(starting, "provenance", cancelled_meanwhile)
    with pytest.raises(BadInput, match="was ended while it was started"):
        first()
    assert runner.orders == []
    assert ledger().run("climb").state == "CANCELLED"


def test_what_is_cancelled_before_it_is_in_hand_is_not_started(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cancels it writes that down, looks, sees nothing to end, and has come no further."""
    monkeypatch.setattr(Rented, "look", lambda self, handle: NEVER)
    real = starting.provenance

    def cancelled_meanwhile(*arguments: Any) -> Provenance:
        decide(ledger(), "climb", Step(move="stop", why="cancelled"))
        return real(*arguments)

    monkeypatch.setattr(starting, "provenance", cancelled_meanwhile)
    with pytest.raises(BadInput, match="run climb is not started: cancelled"):
        first()
    assert runner.orders == []
    assert ledger().run("climb").state == "CANCELLED"


def test_what_is_being_started_is_not_said_to_be_gone(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: Rented, handle: str, order: Order, say: Callable[[str], None]) -> None:
        with hold(self.folder(handle), seconds=1.0):
            order.require_wanted()
            with pytest.raises(OutsideFailed, match="another process is at work"):
                runs.cancel("climb")  # it has waited long enough, and sees nothing there
            self.orders.append(order)

    monkeypatch.setattr(Rented, "submit", submit)
    monkeypatch.setattr(runs, "IN_HAND_SECONDS", 0.0)
    monkeypatch.setattr("launcher.running.finishing.A_MOMENT", 0.0)
    monkeypatch.setattr(Rented, "look", lambda self, handle: UP if self.orders else NEVER)
    monkeypatch.setattr(Rented, "cancel", lambda self, handle: None, raising=False)
    paths.work_folder("climb").mkdir(parents=True)
    first()
    run = ledger().run("climb")
    assert (run.state, run.attempts[0].machine) == ("RUNNING", "UP")
