"""What two processes do to one run at the same moment: the second one acts where the first one has
asked and not yet done. Ledger, folders and budgets are real; what SkyPilot would answer is told."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from launcher import api, climbing, paths
from launcher.commands import several, through
from launcher.errors import BadInput, NoCapacity, OutsideFailed
from launcher.executors import here
from launcher.executors.base import Order, Sight
from launcher.executors.claims import collecting, hold
from launcher.ledger import Ledger
from launcher.running import finishing, reconciling, resuming, runs, watching
from launcher.running.climbs import decide
from launcher.running.clock import spent, utc_now
from launcher.running.collecting import collect
from launcher.running.next_offer import Place
from launcher.running.reconciling import ledger, reconcile
from launcher.running.resuming import Resumption
from launcher.types import Candidate, Plan, Run, Step
from results.records import is_at_work, read_result
from results.stores import FolderStore, open_store
from tests.unit.launcher.renting import Rented, end, ended_unseen, first, planned, runner

__all__ = ["runner"]  # the fixture
NEVER = Sight(alive=False, started=False, result=None, billed=False, never_there=True)
IN_HAND = Sight(alive=True, started=False, result=None, billed=True, doing="in hand")


def quiet(line: str) -> None:
    pass


def ready(book: Ledger, made: Plan) -> Resumption:
    assert made.chosen is not None
    return Resumption(book.run("climb"), made, Place(0, made.chosen), [], 0.0)


@pytest.fixture
def bucket(runner: Rented, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FolderStore:
    """Of the run `climb`, which has ended there and not here; its machine is gone."""
    for module in ("collecting", "history"):
        monkeypatch.setattr(f"launcher.running.{module}.executor", lambda name: runner)
    first()
    ended_unseen("climb", monkeypatch)
    work = paths.work_folder("climb")
    store = open_store(str(tmp_path / "bucket"))
    assert isinstance(store, FolderStore)
    for name, content in (
        (layout.RESULT, (work / layout.RESULT).read_bytes()),
        ("spec.json", b"{}"),
    ):
        store.put(f"climb/{name}", content, None)
    (work / layout.RESULT).unlink()
    book = ledger()
    with book._transaction():
        book._db.execute("UPDATE runs SET bucket = ?", (str(tmp_path / "bucket"),))
    return store


def test_what_is_being_fetched_is_taken_home_by_nobody(
    bucket: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard's slow download came back into a folder that had been taken home meanwhile, and the
    next collection replaced the whole run by that part of it."""
    monkeypatch.setattr(finishing, "A_MOMENT", 0.0)
    real, tried = FolderStore.get, []

    def get(self: FolderStore, key: str, target: Path, sha256: str | None = None) -> None:
        if not tried:
            tried.append(key)
            with pytest.raises(OutsideFailed, match="another process is at work"):
                collect("climb")
        real(self, key, target, sha256)

    monkeypatch.setattr(FolderStore, "get", get)
    book = ledger()
    assert reconcile(book, book.run("climb")).reason == "GATE_FAILED"
    assert tried
    assert read_result(paths.work_folder("climb")) is not None


def test_a_list_of_runs_looks_at_each_as_it_is_then(
    bucket: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.runs

    def listed(self: Ledger) -> list[object]:
        found = real(self)
        end("climb", 0.87, 0.1)  # by another, while the runs before it are looked at
        return found

    monkeypatch.setattr(Ledger, "runs", listed)
    (run,) = watching.runs()
    assert run.ended
    assert not (paths.work_folder("climb") / layout.SPEC).exists()


@contextmanager
def provisioning(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> Iterator[list[str]]:
    """A launcher whose request for a machine is refused; something happens before it says so."""
    said: list[str] = []

    def submit(self: Rented, handle: str, order: Order, say: Callable[[str], None]) -> None:
        self.folder(handle).mkdir(parents=True, exist_ok=True)
        raise NoCapacity("none is free")

    def look(self: Rented, handle: str) -> Sight:
        if not said:  # of the launcher itself, before it writes that it was refused
            said.append("refused")
            meanwhile()
        return NEVER

    monkeypatch.setattr(Rented, "submit", submit)
    monkeypatch.setattr(Rented, "look", look)
    yield said


def test_a_run_that_is_cancelled_while_its_machine_comes_has_cost_nothing(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rented, "cancel", lambda self, handle: None, raising=False)
    cancelled = []
    with (
        provisioning(monkeypatch, lambda: cancelled.append(climbing.cancel("climb"))),
        pytest.raises(BadInput, match="nothing comes after run climb: cancelled"),
    ):
        first()
    run = ledger().run("climb")
    assert [one.state for one in cancelled] == ["CANCELLED"]
    assert (run.state, run.attempts[0].machine, spent(run, utc_now())) == ("CANCELLED", "GONE", 0)


def test_one_that_its_launcher_gives_up_for_a_cancel_is_cancelled(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(self: Rented, handle: str, order: Order, say: Callable[[str], None]) -> None:
        decide(ledger(), "climb", Step(move="stop", why="cancelled"))
        raise NoCapacity("the request was cancelled")

    monkeypatch.setattr(Rented, "submit", submit)
    monkeypatch.setattr(Rented, "look", lambda self, handle: NEVER)
    with pytest.raises(BadInput, match="nothing comes after run climb: cancelled"):
        first()
    assert ledger().run("climb").state == "CANCELLED"


def test_a_cancel_waits_until_nobody_is_at_work_and_looks_then(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in hand may not be fetched from: there was no machine yet."""
    first()
    work = paths.work_folder("climb")
    work.mkdir(parents=True)
    looks: list[bool] = []

    def look(self: Rented, handle: str) -> Sight:
        looks.append(is_at_work(work))
        return IN_HAND if looks[-1] or len(looks) == 1 else NEVER

    def given_up(seconds: float) -> None:
        launcher.__exit__(None, None, None)

    monkeypatch.setattr(Rented, "look", look)
    monkeypatch.setattr(Rented, "cancel", lambda self, handle: None, raising=False)
    monkeypatch.setattr("launcher.executors.claims.time.sleep", given_up)
    launcher = hold(work, 0.0)
    launcher.__enter__()
    run = runs.cancel("climb")
    assert looks[-1] is False
    assert (run.state, run.attempts[0].machine) == ("CANCELLED", "GONE")


def test_a_look_between_a_refusal_and_its_word_hides_no_launcher_from_a_cancel(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = utc_now() + timedelta(minutes=3)
    monkeypatch.setattr(reconciling, "utc_now", lambda: later)  # the refusal took that long

    def looked() -> None:
        assert reconcile(ledger(), ledger().run("climb")).reason == "LOST"

    def priced(candidate: Candidate, *_: object) -> Candidate:
        assert climbing.cancel("climb").state == "FAILED"
        return candidate

    monkeypatch.setattr("launcher.running.next_offer.rentable", priced)
    with (
        provisioning(monkeypatch, looked),
        climbing.at_it("climb"),
        pytest.raises(BadInput, match="nothing comes after run climb: cancelled"),
    ):
        runs.submit(planned(), "runs", quiet)
    assert runner.orders == []


def test_a_cancel_that_sees_nothing_stops_what_would_come_after_all_the_same(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()

    def unseen(self: Rented, handle: str) -> Sight:
        raise OutsideFailed("SkyPilot does not answer")

    monkeypatch.setattr(Rented, "look", unseen)
    with pytest.raises(OutsideFailed, match="does not answer"):
        climbing.cancel("climb")
    assert ledger().decided("climb").why == "cancelled"


def test_a_look_that_fails_at_what_another_has_ended_meanwhile_is_none(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()

    def ended(self: Rented, handle: str) -> Sight:
        end("climb", 0.95, 0.1, None)
        raise OutsideFailed("there is no such cluster")

    monkeypatch.setattr(Rented, "look", ended)
    book = ledger()
    assert reconcile(book, book.run("climb")).state == "SUCCEEDED"


def test_a_run_that_may_not_go_on_keeps_its_result(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, book = first(), ledger()
    end("climb", 0.0, 0.1, "PREEMPTED")
    asked = ready(book, made)
    decide(book, "climb", Step(move="stop", why="cancelled"))  # while it was priced
    result = paths.work_folder("climb") / layout.RESULT
    monkeypatch.setattr(Rented, "clear", lambda self, handle: result.unlink())
    with pytest.raises(BadInput, match="cancelled"):
        resuming.resume(asked, quiet)
    assert result.is_file()


def test_what_goes_on_since_a_collection_waited_for_it_is_not_collected(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("collecting", "history"):
        monkeypatch.setattr(f"launcher.running.{module}.executor", lambda name: runner)
    made, book = first(), ledger()
    end("climb", 0.0, 0.1, "PREEMPTED")

    @contextmanager
    def exclusive(self: Rented, handle: str, seconds: float) -> Iterator[None]:
        resuming.resume(ready(book, made), quiet)
        with collecting(self.folder(handle), seconds):
            yield

    monkeypatch.setattr(Rented, "exclusive", exclusive)
    with pytest.raises(BadInput, match="run climb is RUNNING; collect it when it has ended"):
        collect("climb")


def test_the_ledger_is_free_while_engines_are_asked(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, book = first(), ledger()
    end("climb", 0.0, 0.1, "PREEMPTED")
    assert made.chosen is not None
    offer = msgspec.structs.replace(made.chosen.offer, executor="process")
    local = msgspec.structs.replace(made.chosen, offer=offer)
    made = msgspec.structs.replace(made, candidates=(local, *made.candidates[1:]))
    asked = []

    def engines(spec: object) -> here.Choice:
        other = sqlite3.connect(paths.ledger_file(), timeout=0.0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # raises where it is locked
        other.execute("ROLLBACK")
        other.close()
        asked.append(spec)
        return here.Choice("process", "so it was told")

    monkeypatch.setattr(here, "local_executor", engines)
    resuming.resume(ready(book, made), quiet)
    assert asked


def test_a_cancel_at_the_prompt_of_a_run_that_has_just_ended_collects_it(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    followed = iter([KeyboardInterrupt, None])

    def watch(*_: object) -> None:
        signal = next(followed)
        if signal is not None:
            raise signal

    real = api.cancel

    def cancel(run_id: str) -> Run:
        end("climb", 0.95, 0.1, None)
        return real(run_id)

    monkeypatch.setattr(api, "cancel", cancel)
    monkeypatch.setattr("launcher.display.progress.watch", watch)
    monkeypatch.setattr(through.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(through, "_ask_what_now", lambda: "c")
    assert through._follow("climb")


def test_a_member_that_was_handed_a_machine_meanwhile_is_followed(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handed(run_id: str, *_: object) -> Plan:
        if run_id == "climb":
            first()
        raise BadInput(f"run {run_id} exists already")

    monkeypatch.setattr("launcher.portfolios.begin_member", handed)
    several.begin_member("climb", yes=True)
    assert api.exists("climb")
    with pytest.raises(BadInput, match="exists already"):
        several.begin_member("another", yes=True)
