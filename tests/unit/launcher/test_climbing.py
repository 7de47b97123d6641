"""A climb over rented machines."""

import fcntl
import json
import os
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from jobs import layout
from jobs.spec import PhaseRecord
from launcher import api, cli, climbing, guard, paths
from launcher.errors import BadInput, NothingFits
from launcher.estimate.calibration import card_name
from launcher.events import Measured
from launcher.executors.environment import PYTHON_VARIABLE
from launcher.executors.here import EXECUTOR_VARIABLE
from launcher.running import launchers, runs
from launcher.running.budgets import Project, account, left
from launcher.running.climbs import carried_on, climb_of
from launcher.running.climbs import left as left_of
from launcher.running.clock import utc_now
from launcher.running.reconciling import ledger
from launcher.times import stamp
from launcher.types import Measurement, Origin, Plan, Rung
from tests.unit.launcher.plans import dollars
from tests.unit.launcher.renting import (
    CAP,
    Rented,
    climb_on,
    cost,
    end,
    ended_unseen,
    first,
    planned,
    runner,
    sample_rows,
)

__all__ = ["runner"]  # the fixture
GO_ON = ["train", "--run-id", "climb", "--yes"]


def test_a_rung_has_what_the_runs_before_it_left_of_the_cap(runner: Rented) -> None:
    made = first(Project("filters", dollars(100)))
    book = ledger()
    assert left(book, "climb") == 0  # a run under way holds its whole cap
    end("climb", 0.87, 0.5)
    taken = cost(book, "climb")
    assert 0 < taken < dollars(1)
    assert left(book, "climb") == dollars(CAP) - taken
    assert climb_on() == "climb-2"
    second = book.plan("climb-2")
    assert second.budget.max_cost_microusd == dollars(CAP) - taken
    assert second.budget.max_hours < made.budget.max_hours
    assert (second.job.lora.r, second.job.strategy) == (32, "qlora")
    assert second.ladder is None
    assert runner.orders[-1].spec.run_id == "climb-2"
    assert book.origin("climb-2") == Origin(
        climb="climb", rung=1, escalate="yes", budgets=("climb", "project/filters")
    )
    assert left(book, "project/filters") == dollars(100) - dollars(CAP)
    end("climb-2", 0.5, 0.5)
    assert climb_on("climb-2") == "climb-3"
    both = cost(book, "climb") + cost(book, "climb-2")
    assert book.plan("climb-3").budget.max_cost_microusd == dollars(CAP) - both
    assert book.plan("climb-3").job.strategy == "lora"
    end("climb-3", 0.95, 0.5, None)
    assert climbing.next_of("climb", lambda _: None).step.move == "done"
    whole = both + cost(book, "climb-3")
    assert account(book, "filters").spent_microusd == whole <= dollars(CAP)
    assert climbing.outcome("climb").best == "climb-3"


def test_the_next_plan_knows_what_the_runs_before_it_measured(runner: Rented) -> None:
    made = first()
    end("climb", 0.87, 0.1)
    assert made.chosen is not None
    card = card_name(made.chosen.offer.device)
    twice_as_long = Measurement(
        card=card, device="cuda", strategy="qlora", model=made.model.id, memory_metric="",
        memory_bytes=None, memory_estimated_bytes=None, training_tokens=1000, training_seconds=2.0,
        training_estimated_seconds=1.0,
    )  # fmt: skip
    book = ledger()
    book.append("climb", stamp(utc_now()), Measured(attempt=1, measurement=twice_as_long))
    climb_on()
    estimates = {
        c.estimate.calibrated_on
        for c in book.plan("climb-2").candidates
        if c.estimate is not None and card_name(c.offer.device) == card
    }
    assert estimates == {1}


def test_failed_runs_count_and_the_cap_says_what_more_would_buy(runner: Rented) -> None:
    first()
    end("climb", 0.5, 6.0)  # longer than anybody planned, within the cap
    book = ledger()
    assert left(book, "climb") < dollars(0.6)
    found = climbing.next_of("climb", lambda _: None)
    assert (found.step.move, found.step.cut_short) == ("stop", True)
    assert "lora takes $" in found.step.why
    climbing.stop(found)
    assert book.undecided() == []


def test_nothing_is_decided_while_a_machine_may_bill(runner: Rented) -> None:
    first()
    with pytest.raises(BadInput, match="run climb is not over"):
        climbing.next_of("climb", lambda _: None)


def test_the_project_decides_too(runner: Rented) -> None:
    """Others have drawn on it meanwhile: between the rung's plan and its start."""
    first(Project("filters", dollars(CAP + 1)))
    end("climb", 0.5, 0.1)
    ready = climbing.next_of("climb", lambda _: None)
    book = ledger()
    other = msgspec.structs.replace(ready.plan, run_id="other")
    runs.submit(other, "runs", lambda _: None, project=Project("filters", None))
    with pytest.raises(NothingFits, match="the budget of project filters has") as refusal:
        climbing.go_on(ready, lambda _: None)
    assert book.find("climb-2") is None
    assert [run.run_id for run in book.undecided()] == ["climb"]  # it may be tried again
    assert climbing.interrupted("climb", refusal.value).cut_short


def test_a_price_of_now_over_the_cap_cuts_the_climb_short(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dearer(*_: object) -> Plan:
        raise NothingFits("RunPod asks twice its list's price now")

    first()
    end("climb", 0.87, 0.1)
    monkeypatch.setattr(api, "ready", dearer)
    found = climbing.next_of("climb", lambda _: None)
    assert (found.step.move, found.step.cut_short) == ("stop", True)
    assert "twice its list's price" in found.step.why


def test_out_of_memory_is_not_tried_on_less(runner: Rented) -> None:
    first(None, "train.micro_batch=1", "train.activation_checkpointing=true", gpu=None)
    book = ledger()
    (card,) = {book.plan("climb").candidates[0].offer.device.total_bytes}
    end("climb", 0.0, 0.1, "OUT_OF_MEMORY")
    climb_on()
    second = book.plan("climb-2")
    assert all(c.offer.device.total_bytes > card for c in second.candidates)
    assert second.job.lora == book.plan("climb").job.lora


def test_other_data_is_no_rung_of_the_same(runner: Rented, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(sample_rows("train", 60))
    first(None, f"data.train={rows}")
    end("climb", 0.5, 0.1)
    rows.write_text(sample_rows("train", 50))
    with pytest.raises(BadInput, match="has changed since climb was planned on it"):
        climbing.next_of("climb", lambda _: None)


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("data.validation", "30 rows", "20 rows"),
        ("data.test", "30 rows", "20 rows"),
        ("data.replay", "30 rows", "20 rows"),
        ("eval.golden", "30 rows", "20 rows"),
        ("eval.schema", '{"type": "object"}', '{"type": "array"}'),
        ("eval.metrics", "def half(row): return 0.5", "def half(row): return 1.0"),
    ],
)
def test_what_a_rung_is_judged_by_stays(
    runner: Rented, tmp_path: Path, key: str, before: str, after: str
) -> None:
    def content(of: str) -> str:
        return sample_rows("train", int(of.split()[0])) if of.endswith("rows") else of

    file = tmp_path / {"eval.schema": "a.json", "eval.metrics": "own.py"}.get(key, "rows.jsonl")
    file.write_text(content(before))
    first(None, f"{key}=[{file}:half]" if key == "eval.metrics" else f"{key}={file}")
    end("climb", 0.5, 0.1)
    assert climbing.next_of("climb", lambda _: None).goes_on
    file.write_text(content(after))
    with pytest.raises(
        BadInput, match=rf"{file.name} \({key}.*has changed since climb was planned"
    ):
        climbing.next_of("climb", lambda _: None)


def test_a_decision_stands_until_the_run_is_started_again(runner: Rented) -> None:
    first()
    end("climb", 0.5, 0.1)
    book = ledger()
    assert [run.run_id for run in book.undecided()] == ["climb"]
    ready = climbing.next_of("climb", lambda _: None)
    climbing.stop(ready, "the next rung was not wanted")
    assert book.undecided() == []
    (told,) = climbing.outcome("climb").story
    assert told.decision == "the next rung was not wanted"


def test_a_run_that_does_not_climb_is_left_alone(runner: Rented) -> None:
    made = first()
    other = msgspec.structs.replace(made, run_id="alone")
    runs.submit(other, "runs", lambda _: None)
    end("alone", 0.5, 0.1)
    book = ledger()
    assert book.undecided() == []
    assert climbing.next_of("alone", lambda _: None).step.move == "stop"
    assert not climbing.waits("alone")


@pytest.mark.parametrize("reason", [None, "CANCELLED", "ERROR", "LOST"])
def test_the_guard_starts_nobody_where_the_ladder_has_nothing(runner: Rented, reason) -> None:
    first()
    end("climb", 0.95, 0.1, reason)
    book = ledger()
    assert list(carried_on(book)) == []
    assert book.undecided() == []  # and does not ask again
    said = book.decided("climb")
    assert said is not None
    assert said.move == ("done" if reason is None else "stop")


def test_the_guard_leaves_a_climb_to_who_is_at_it(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.running.climbs.AT_IT_SECONDS", 0.0)
    first()
    end("climb", 0.95, 0.1, "LOST")
    book = ledger()
    with climbing.at_it("climb") as free:
        assert free
        assert list(carried_on(book)) == []
        assert len(book.undecided()) == 1
    with climbing.at_it("climb") as one, climbing.at_it("climb") as other:
        assert (one, other) == (True, False)


def test_who_looks_whether_anybody_is_at_it_stands_in_nobody_s_way(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    end("climb", 0.5, 0.1)
    started: list[str] = []
    monkeypatch.setattr(launchers, "start", lambda run_id, **_: started.append(run_id))
    with climbing.at_it("climb"):
        pass
    with open(paths.climb_lock("climb")) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert len(list(carried_on(ledger()))) == 1  # another that looks is nobody who is at it
        assert started == ["climb"]
        waited: list[float] = []

        def look_over(seconds: float) -> None:
            waited.append(seconds)
            fcntl.flock(lock, fcntl.LOCK_UN)

        monkeypatch.setattr("launcher.executors.claims.time.sleep", look_over)
        with climbing.at_it("climb") as free:
            assert free
        assert len(waited) == 1


def test_cancelling_does_not_take_the_climb(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    first()
    end("climb", 0.5, 0.1)
    monkeypatch.setattr(climbing, "at_it", None)
    assert climbing.cancel("climb").run_id == "climb"
    assert ledger().undecided() == []


def test_a_climb_whose_run_ended_unseen_goes_on_at_the_first_word(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cli, "see_through", lambda run_id, *_: seen.append(run_id))
    monkeypatch.setattr(api, "collect", lambda run_id: None)
    first()
    ended_unseen("climb", monkeypatch)
    CliRunner().invoke(cli.launch, GO_ON, catch_exceptions=False)
    assert seen == ["climb-2"]
    assert ledger().plan("climb-2").job.lora.r == 32


def test_a_run_under_way_that_nobody_is_at_is_seen_through(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cli, "see_through", lambda run_id, *_: seen.append(run_id))
    first()
    CliRunner().invoke(cli.launch, GO_ON, catch_exceptions=False)
    assert seen == ["climb"]
    assert len(runner.orders) == 1


def test_who_leaves_a_climb_on_without_a_store_is_refused(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "collect", lambda run_id: None)
    first()
    end("climb", 0.87, 0.1)
    refused = CliRunner().invoke(cli.launch, [*GO_ON, "--detach"])
    assert isinstance(refused.exception, BadInput)
    assert "the machine may go before anybody fetches its results" in str(refused.exception)
    assert [run.run_id for run in ledger().undecided()] == ["climb"]  # nothing is decided by that


def test_one_climb_s_trouble_is_a_line_and_the_next_is_looked_at(runner: Rented) -> None:
    made = first()
    other = msgspec.structs.replace(made, run_id="other")
    runs.submit(other, "runs", lambda _: None, Origin(escalate="yes"))
    end("climb", 0.5, 0.1)
    end("other", 0.95, 0.1, "LOST")
    paths.climb_lock("climb").mkdir(parents=True)  # no lock can be taken
    book = ledger()
    (said,) = carried_on(book)
    assert said.startswith("climb: ")
    assert "Is a directory" in said
    assert [run.run_id for run in book.undecided()] == ["climb"]


def test_the_watch_goes_on_while_a_climb_waits(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another launcher is at it, for two rounds: its next rung would be held from here too."""
    first()
    end("climb", 0.5, 0.1)
    book, rounds = ledger(), []

    def slept(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 2:
            climbing.stop(climbing.next_of("climb", lambda _: None), "not wanted")

    monkeypatch.setattr(guard.time, "sleep", slept)
    with climbing.at_it("climb"):
        assert list(guard.watch(book, carried_on)) == []
    assert len(rounds) == 2


def test_hours_that_nobody_looked_are_not_counted(runner: Rented) -> None:
    """The job was done after an hour; the machine's end was noticed seven hours later."""
    made = first()
    end("climb", 0.5, 8.0)
    book, now = ledger(), utc_now()
    began, done = (stamp(now - timedelta(hours=hours)) for hours in (8, 7))
    with book._transaction():
        book._db.execute("UPDATE runs SET created_at = ? WHERE run_id = 'climb'", (began,))
    climb = climb_of(book, "climb")
    assert left_of(book, climb).max_hours == pytest.approx(made.budget.max_hours - 8, abs=0.01)
    record = PhaseRecord(at=done, phase="done")
    (paths.work_folder("climb") / layout.METRICS).write_bytes(msgspec.json.encode(record) + b"\n")
    assert left_of(book, climb).max_hours == pytest.approx(made.budget.max_hours - 1, abs=0.01)
    gone = stamp(now - timedelta(hours=7.5))
    with book._transaction():
        book._db.execute("UPDATE machines SET gone_at = ? WHERE run_id = 'climb'", (gone,))
    climb = climb_of(book, "climb")
    assert left_of(book, climb).max_hours == pytest.approx(made.budget.max_hours - 0.5, abs=0.01)


def test_a_rung_that_cannot_go_on_from_the_parent_is_passed_over(
    runner: Rented, tmp_path: Path
) -> None:
    """The ladder was planned before the parent was looked at for each rung: now it is."""
    parent = tmp_path / "parent"
    parent.mkdir()
    settings = {"r": 16, "lora_alpha": 32, "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    (parent / "adapter_config.json").write_text(json.dumps(settings))
    (parent / "adapter_model.safetensors").write_bytes(b"weights")
    slower = Rung(strategy="qlora", set={"train.learning_rate": 1e-5})
    made = planned(f"resume_from={parent}")
    assert made.ladder is not None
    wider = Rung(strategy="qlora", set={"lora.r": 32})
    one = made.ladder.rungs[0]
    rungs = (one, *(msgspec.structs.replace(one, rung=rung) for rung in (wider, slower)))
    ladder = msgspec.structs.replace(made.ladder, rungs=rungs)
    made = msgspec.structs.replace(made, ladder=ladder)
    runs.submit(made, "runs", lambda _: None, Origin(escalate="yes"))
    end("climb", 0.87, 0.1)
    found = climbing.next_of("climb", lambda _: None)
    assert (found.step.move, found.step.rung) == ("climb", 2)
    assert found.plan is not None
    assert found.plan.job.train.learning_rate == 1e-5

    refused = api.plan_rung(made, wider, made.budget, "climb-2", now=utc_now())
    assert refused.chosen is None
    assert "lora.r: the parent has 16, this run 32" in refused.candidates[0].reason


def test_a_rung_takes_a_name_that_nobody_has(runner: Rented, tmp_path: Path) -> None:
    made = first()
    runs.submit(msgspec.structs.replace(made, run_id="climb-2"), "runs", lambda _: None)
    (tmp_path / "runs" / "climb-3").mkdir(parents=True)
    end("climb", 0.5, 0.1)
    assert climb_on() == "climb-4"
    assert [run.run_id for run in ledger().climb("climb")] == ["climb", "climb-4"]


def test_executor_and_python_are_those_of_the_first_run(
    runner: Rented, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The guard's launcher and a second terminal have neither in their environment."""
    python = tmp_path / "env" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv(EXECUTOR_VARIABLE, "process")
    monkeypatch.setenv(PYTHON_VARIABLE, "env/python")  # of this folder
    first()
    end("climb", 0.5, 0.1)
    origin = ledger().origin("climb")
    assert (origin.executor, origin.python) == ("process", str(python))
    monkeypatch.delenv(EXECUTOR_VARIABLE)
    monkeypatch.delenv(PYTHON_VARIABLE)
    assert climb_on() == "climb-2"
    assert (os.environ[EXECUTOR_VARIABLE], os.environ[PYTHON_VARIABLE]) == ("process", str(python))
    assert ledger().origin("climb-2").python == str(python)
    monkeypatch.setenv(EXECUTOR_VARIABLE, "docker")  # asked for now
    end("climb-2", 0.5, 0.1)
    climbing.next_of("climb", lambda _: None)
    assert os.environ[EXECUTOR_VARIABLE] == "docker"
