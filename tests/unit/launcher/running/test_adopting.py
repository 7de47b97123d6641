"""`launch adopt`: runs of a folder enter another ledger; all of it is real but the plan."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from jobs import layout
from jobs.spec import PhaseRecord, Result, encode
from launcher import paths
from launcher.commands.runs import adopt as command
from launcher.errors import BadInput, OutsideFailed
from launcher.events import AttemptStarted, BudgetSet, MachineChanged, RunCreated, StateChanged
from launcher.executors.base import Sight
from launcher.ledger import Ledger
from launcher.running import history
from launcher.running.adopting import Adoption, adopt
from launcher.running.clock import clock_of, spent
from launcher.running.collecting import collect
from launcher.running.reconciling import reconcile
from launcher.running.watching import status
from launcher.times import stamp
from launcher.types import Budget, Origin, Plan, Run
from results.collect import verify
from results.sums import sha256_of, write_sums

NOW = datetime.now(UTC)
BEGAN = NOW - timedelta(minutes=20)
NEVER = Sight(alive=False, started=False, result=None, billed=False, never_there=True)


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ledger]:
    """The ledger of one machine or another, which is used from then on."""

    def used(machine: str) -> Ledger:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / machine))
        monkeypatch.chdir(tmp_path)
        return Ledger(paths.ledger_file())

    return used


@pytest.fixture
def plan(small_plan: Plan) -> Plan:
    """An hour of a rented machine for 74 cents, and a cap that pays for an hour."""
    (chosen, *others) = small_plan.candidates
    offer = msgspec.structs.replace(chosen.offer, as_of=NOW.date().isoformat())
    return msgspec.structs.replace(
        small_plan,
        created_at=stamp(BEGAN),
        budget=Budget(max_cost_microusd=740_000),
        candidates=(msgspec.structs.replace(chosen, offer=offer), *others),
    )


THERE = Origin(escalate="yes", budgets=("project/p",), executor="docker", python="/there/python")


def begin(book: Ledger, plan: Plan, run_id: str, store: Path, executor: str = "process") -> Path:
    """The run, asked for twenty minutes ago; its working folder."""
    made = msgspec.structs.replace(plan, run_id=run_id)
    work = paths.work_folder(run_id)
    started = AttemptStarted(
        attempt=1,
        executor=executor,
        handle=f"process:{work}" if executor == "process" else f"skypilot:loralift-{run_id}-1",
        provider="runpod",
        instance="1x_RTX4090_SECURE",
        microusd_per_hour=740_000,
    )
    book.append(
        run_id,
        stamp(BEGAN),
        RunCreated(plan=made, store=str(store), origin=THERE),
        BudgetSet(name="project/p", cap_microusd=1),
        started,
        StateChanged(attempt=1, state="PROVISIONING"),
    )
    work.mkdir(parents=True)
    (work / layout.SPEC).write_text(json.dumps({"run_id": run_id}))
    (work / layout.LOG).write_text("at work\n")
    return work


def succeed(work: Path, run_id: str) -> None:
    (work / layout.ADAPTER).mkdir()
    (work / layout.ADAPTER / "adapter_model.safetensors").write_bytes(b"weights")
    result = Result(run_id=run_id, status="success", adapter=layout.ADAPTER)
    (work / layout.RESULT).write_bytes(encode(result))


@pytest.fixture
def collected(on: Callable[[str], Ledger], plan: Plan, tmp_path: Path) -> Path:
    """A store with two runs that another machine launched and collected."""
    book, store = on("there"), tmp_path / "store"
    for run_id in ("run-1", "run-2"):
        succeed(begin(book, plan, run_id, store), run_id)
        up = MachineChanged(attempt=1, state="UP")
        gone = MachineChanged(attempt=1, state="GONE", at=stamp(BEGAN + timedelta(minutes=10)))
        book.append(run_id, stamp(BEGAN), up, StateChanged(attempt=1, state="RUNNING"))
        book.append(run_id, stamp(BEGAN), gone, StateChanged(attempt=1, state="SUCCEEDED"))
        collect(run_id)
    return store


def but_for_the_place(run: Run) -> Run:
    attempts = tuple(msgspec.structs.replace(a, handle="") for a in run.attempts)
    return msgspec.structs.replace(run, attempts=attempts)


def test_a_collected_run_is_here_what_it_was_there(on, collected):
    there = {run.run_id: run for run in on("there").runs()}
    plans = {run_id: on("there").plan(run_id) for run_id in there}
    book = on("here")
    found = list(adopt(str(collected)))
    assert [(a.run_id, a.outcome) for a in found] == [("run-1", "adopted"), ("run-2", "adopted")]
    assert found[0].said == f"SUCCEEDED, $0.12, complete; files in {collected / 'run-1'}"
    for run_id, was in there.items():
        run = book.run(run_id)
        assert but_for_the_place(run) == but_for_the_place(was)
        assert book.plan(run_id) == plans[run_id]
        assert spent(run, NOW) == 740_000 // 6 + 1
        assert run.attempts[0].handle == f"process:{paths.work_folder(run_id)}"
    assert collect("run-1") == collected / "run-1"
    assert status("run-1").folder == str(collected / "run-1")
    assert verify(collected / "run-1") == []


def test_it_is_climbed_on_and_paid_where_it_was_launched(on, collected):
    assert [run.run_id for run in on("there").undecided()] == ["run-1", "run-2"]
    book = on("here")
    list(adopt(str(collected)))
    assert (book.undecided(), book.caps()) == ([], {})
    assert book.origin("run-1") == Origin()


def test_once_more_changes_nothing(on, collected):
    book = on("here")
    list(adopt(str(collected)))
    before = book.events("run-1"), book.events("run-2")
    assert {a.outcome for a in adopt(str(collected))} == {"known"}
    assert (book.events("run-1"), book.events("run-2")) == before
    on("there")
    assert {a.outcome for a in adopt(str(collected))} == {"known"}  # where they were launched, too


def test_a_damaged_run_is_refused_by_name_and_the_other_adopted(on, collected):
    with (collected / "run-1" / layout.LOG).open("a") as log:
        log.write("and more")
    book = on("here")
    refused, taken = adopt(str(collected))
    assert (refused.run_id, refused.outcome) == ("run-1", "refused")
    assert refused.said == "it is not what was collected: job.log has changed"
    assert (taken.run_id, taken.outcome) == ("run-2", "adopted")
    assert [run.run_id for run in book.runs()] == ["run-2"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.unlink(), "it has no events.jsonl"),
        (lambda file: file.write_text("{}\n"), "events.jsonl is damaged"),
        (lambda file: file.write_text(""), "events.jsonl is not the history of run-1"),
        (
            lambda file: shutil.copy(file.parents[1] / "run-2" / file.name, file),
            "events.jsonl is not the history of run-1",
        ),
    ],
)
def test_a_run_without_its_own_history_is_refused(change, said, on, collected):
    home = collected / "run-1"
    change(home / layout.EVENTS)
    sums = {p.relative_to(home).as_posix(): sha256_of(p) for p in home.rglob("*") if p.is_file()}
    del sums[layout.SUMS]
    (home / layout.SUMS).write_bytes(write_sums(sums))
    on("here")
    refused, taken = adopt(str(collected))
    assert refused.outcome == "refused"
    assert said in refused.said
    assert taken.outcome == "adopted"


def test_one_run_is_an_address_too_and_none_is_refused(on, collected, tmp_path):
    on("here")
    (found,) = adopt(str(collected / "run-2"))
    assert (found.run_id, found.outcome) == ("run-2", "adopted")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BadInput, match="there is no run in"):
        list(adopt(str(tmp_path / "nothing")))


def test_the_command_says_a_line_each_and_ends_with_4_where_one_is_damaged(on, collected):
    on("here")
    done = CliRunner().invoke(command, [str(collected)])
    assert (done.exit_code, done.output.count("\n")) == (0, 2)
    assert "run-1: adopted: SUCCEEDED" in done.output
    (collected / "run-1" / layout.LOG).write_text("changed")
    on("elsewhere")
    done = CliRunner().invoke(command, [str(collected), "--json"])
    assert done.exit_code == 4
    outcomes = [run["outcome"] for run in json.loads(done.stdout)["runs"]]
    assert outcomes == ["refused", "adopted"]


# --- a run that was never collected -----------------------------------------------------------


@pytest.fixture
def partial(on: Callable[[str], Ledger], plan: Plan, tmp_path: Path) -> Path:
    """A store with a run as its bucket has it while it trains on a rented machine."""
    book, store = on("there"), tmp_path / "store"
    work = begin(book, plan, "run-1", store, executor="skypilot")
    (work / layout.EVENTS).write_bytes(history.document(book, "run-1"))
    store.mkdir()
    shutil.copytree(work, store / "run-1")
    return store


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """SkyPilot here never had such a machine."""
    monkeypatch.setattr(
        "launcher.executors.skypilot.SkyPilotExecutor.look", lambda self, handle: NEVER
    )


def test_a_machine_that_nobody_here_can_see_is_unknown_and_said(on, partial, unseen):
    book = on("here")
    (found,) = adopt(str(partial))
    assert "its machine is UNKNOWN: it may still be there and cost money" in found.said
    run = book.run("run-1")
    assert (run.state, run.attempts[0].machine) == ("PROVISIONING", "UNKNOWN")
    view = status("run-1")
    assert view.run == run
    until = clock_of(book.plan("run-1"), run).paid_until
    assert f"until {until:%Y-%m-%d %H:%M:%S} UTC" in view.unseen
    assert 740_000 // 3 <= view.spent_microusd <= 740_000  # twenty minutes, and counting
    assert view.log_tail == "at work"


def test_what_a_link_leads_to_is_not_taken_along(on, partial, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (partial / "run-1" / "adapter").mkdir()
    (partial / "run-1" / "adapter" / "notes").symlink_to(tmp_path / "secret")
    on("here")
    (found,) = adopt(str(partial))
    assert found.outcome == "refused"
    assert "notes is a link" in found.said
    assert not paths.work_folder("run-1").exists()


def test_at_the_caps_end_its_own_side_has_ended_it_and_all_of_it_is_counted(
    on, partial, unseen, monkeypatch
):
    book = on("here")
    list(adopt(str(partial)))
    until = clock_of(book.plan("run-1"), book.run("run-1")).paid_until
    monkeypatch.setattr(
        "launcher.running.reconciling.utc_now", lambda: until + timedelta(seconds=1)
    )
    run = reconcile(book, book.run("run-1"))
    assert (run.state, run.reason) == ("FAILED", "LOST")
    assert run.attempts[0].gone_at == stamp(until)
    assert spent(run, until + timedelta(days=1)) == pytest.approx(740_000, abs=1000)


def test_a_result_is_taken_at_once_and_its_machine_gone_when_its_end_was_reserved(
    on, partial, unseen, plan
):
    over = BEGAN + timedelta(minutes=5)
    record = PhaseRecord(at=stamp(over), phase="done")
    (partial / "run-1" / layout.METRICS).write_bytes(msgspec.json.encode(record) + b"\n")
    succeed(partial / "run-1", "run-1")
    book = on("here")
    list(adopt(str(partial)))
    due = clock_of(book.plan("run-1"), book.run("run-1"))
    run = reconcile(book, book.run("run-1"))
    assert run.state == "SUCCEEDED"
    assert run.attempts[0].gone_at == stamp(over + (due.paid_until - due.stop_at))
    assert verify(collect("run-1")) == []
    assert (partial / "run-1" / layout.RECEIPT).is_file()  # home is where it was found


def test_what_skypilot_here_knows_is_looked_at_as_any_run(on, partial, monkeypatch):
    there = Sight(alive=True, started=True, result=None, billed=True)
    monkeypatch.setattr(
        "launcher.executors.skypilot.SkyPilotExecutor.look", lambda self, handle: there
    )
    book = on("here")
    list(adopt(str(partial)))
    run = reconcile(book, book.run("run-1"))
    assert (run.state, run.attempts[0].machine) == ("RUNNING", "UP")


def test_without_skypilot_it_is_unseen_not_gone(on, partial, monkeypatch):
    def look(self: object, handle: str) -> Sight:
        raise OutsideFailed("SkyPilot is not installed")

    monkeypatch.setattr("launcher.executors.skypilot.SkyPilotExecutor.look", look)
    book = on("here")
    list(adopt(str(partial)))
    with pytest.raises(OutsideFailed, match="cannot be seen from here"):
        reconcile(book, book.run("run-1"))
    assert book.run("run-1").attempts[0].machine == "UNKNOWN"


def test_the_guard_does_not_say_that_it_ended_what_it_cannot_see(on, partial, monkeypatch):
    from launcher.guard import enforce

    book = on("here")
    list(adopt(str(partial)))
    monkeypatch.setattr("launcher.guard.utc_now", lambda: NOW + timedelta(days=1))
    assert enforce(book, book.run("run-1")) is None
    assert book.run("run-1").state == "PROVISIONING"


def test_files_that_are_here_already_are_not_taken_for_it(on, partial):
    on("here")
    paths.work_folder("run-1").mkdir(parents=True)
    (found,) = adopt(str(partial))
    assert isinstance(found, Adoption)
    assert found.outcome == "refused"
    assert "is there already" in found.said


def test_it_is_adopted_with_what_its_machine_may_cost_or_not_at_all(on, partial, monkeypatch):
    def killed(book: Ledger, run_id: str) -> None:
        raise KeyboardInterrupt

    book = on("here")
    monkeypatch.setattr("launcher.running.adopting._with_unknown_machines", killed)
    with pytest.raises(KeyboardInterrupt):
        list(adopt(str(partial)))
    assert book.find("run-1") is None
