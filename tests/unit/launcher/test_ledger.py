import gc
import sqlite3
import threading
from pathlib import Path

import pytest

from launcher.errors import BadInput, OutsideFailed
from launcher.events import (
    AttemptStarted,
    Collected,
    MachineChanged,
    Measured,
    PassedOver,
    RunCreated,
    StateChanged,
)
from launcher.ledger import Ledger, measurements
from launcher.types import Measurement, Plan, Terms

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
AT = "2026-11-21T00:00:00.000+00:00"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite3"


def begin(book: Ledger, plan: Plan, run_id: str = "run-1") -> None:
    started = AttemptStarted(
        attempt=1,
        executor="process",
        handle="process:/w",
        provider="local",
        instance="cpu",
        microusd_per_hour=0,
    )
    book.append(run_id, AT, RunCreated(plan=plan, store="/runs"), started)
    book.append(
        run_id,
        AT,
        StateChanged(attempt=1, state="PROVISIONING"),
        StateChanged(attempt=1, state="RUNNING"),
    )


def test_a_run_comes_back_from_another_process(path: Path, small_plan: Plan) -> None:
    begin(Ledger(path), small_plan)
    run = Ledger(path).run("run-1")
    assert (run.state, run.attempts[0].machine, run.attempts[0].handle) == (
        "RUNNING",
        "REQUESTED",
        "process:/w",
    )
    assert Ledger(path).plan("run-1") == small_plan


def test_events_rebuild_what_the_projection_says(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    book.append("run-1", AT, MachineChanged(attempt=1, state="GONE"))
    book.append("run-1", AT, StateChanged(attempt=1, state="FAILED", reason="LOST", message="gone"))
    book.append("run-1", AT, Collected(folder="/runs/run-1"))
    kinds = [type(event).__name__ for _, event in book.events("run-1")]
    assert kinds == [
        "RunCreated",
        "AttemptStarted",
        "StateChanged",
        "StateChanged",
        "MachineChanged",
        "StateChanged",
        "Collected",
    ]
    run = book.run("run-1")
    assert (run.state, run.reason, run.folder) == ("FAILED", "LOST", "/runs/run-1")
    assert run.attempts[0].gone_at == run.ended_at == AT


def test_an_ended_run_keeps_its_first_ending(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    book.append("run-1", AT, StateChanged(attempt=1, state="SUCCEEDED"))
    book.append("run-1", AT, StateChanged(attempt=1, state="FAILED", reason="LOST"))
    assert book.run("run-1").state == "SUCCEEDED"
    assert len(book.events("run-1")) == 5  # what did not happen is not written


def test_an_older_attempt_has_no_say(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    book.append("run-1", AT, MachineChanged(attempt=1, state="GONE"))
    book.append("run-1", AT, StateChanged(attempt=1, state="FAILED", reason="LOST"))
    second = AttemptStarted(
        attempt=2,
        executor="process",
        handle="process:/w",
        provider="local",
        instance="cpu",
        microusd_per_hour=0,
    )
    book.append("run-1", AT, second, StateChanged(attempt=2, state="PROVISIONING"))
    book.append("run-1", AT, StateChanged(attempt=1, state="FAILED", reason="LOST"))
    book.append("run-1", AT, MachineChanged(attempt=1, state="UP"))
    run = book.run("run-1")
    assert run.state == "PROVISIONING"
    assert [a.machine for a in run.attempts] == ["GONE", "REQUESTED"]


def test_an_attempt_has_the_terms_that_it_is_billed_on(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    rented = AttemptStarted(
        attempt=1,
        executor="skypilot",
        handle="skypilot:x",
        provider="aws",
        instance="g5.xlarge",
        microusd_per_hour=1_010_000,
        billing_seconds=60,
        billing_minimum_seconds=120,
        egress_microusd=90_000,
        price_as_of="2026-11-21",
    )
    book.append("run-1", AT, RunCreated(plan=small_plan, store="/runs"), rented)
    for asked in Ledger(path).run("run-1").attempts[0], book.events("run-1")[1][1]:
        assert isinstance(asked, Terms)
        billed = (asked.microusd_per_hour, asked.billing_seconds, asked.billing_minimum_seconds)
        assert (*billed, asked.egress_microusd) == (1_010_000, 60, 120, 90_000)
    book.append("run-1", AT, MachineChanged(attempt=1, state="UP"))
    assert book.run("run-1").attempts[0].egress_microusd == 90_000
    book.append("run-1", AT, MachineChanged(attempt=1, state="GONE", egress_microusd=0))
    assert book.run("run-1").attempts[0].egress_microusd == 0


def test_what_was_passed_over_stands_with_why_a_run_failed(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    failed = StateChanged(attempt=1, state="FAILED", reason="NO_CAPACITY", message="none now")
    book.append("run-1", AT, failed, PassedOver(candidate=1, message="worst $5 > cap $4"))
    run = book.run("run-1")
    assert (run.state, run.reason, run.message) == (
        "FAILED", "NO_CAPACITY", "none now\nworst $5 > cap $4",
    )  # fmt: skip


def test_events_cannot_be_changed_or_removed(path: Path, small_plan: Plan) -> None:
    begin(Ledger(path), small_plan)
    db = sqlite3.connect(path)
    for statement in ("DELETE FROM events", "UPDATE events SET body = ''"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_a_failed_append_leaves_nothing(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    with pytest.raises(BadInput, match="started by someone else"):
        book.append(
            "run-1", AT, Collected(folder="/x"), RunCreated(plan=small_plan, store="/again")
        )
    assert book.run("run-1").folder is None
    assert len(book.events("run-1")) == 4


def test_writers_wait_for_each_other(path: Path, small_plan: Plan) -> None:
    Ledger(path)
    errors: list[Exception] = []

    def write(first: int) -> None:
        try:
            book = Ledger(path)
            for number in range(first, first + 10):
                begin(book, small_plan, f"run-{number}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(k * 10,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(Ledger(path).runs()) == 40


def test_an_unknown_run_names_the_nearest(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan, "sample-1121-040000-ab12")
    with pytest.raises(BadInput, match="did you mean sample-1121-040000-ab12"):
        book.run("sample-1121-040000-ab13")


def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    Ledger(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutsideFailed, match="newer version"):
        Ledger(path)


def test_a_ledger_that_is_no_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, and long enough to be read as one" * 40)
    with pytest.raises(OutsideFailed, match="cannot be opened"):
        Ledger(path)


# --- measurements ---------------------------------------------------------------------------


def taken(attempt: int = 1, seconds: float | None = 90.0) -> Measured:
    found = Measurement(
        card="RTX4090",
        device="cuda",
        strategy="qlora",
        model="a/b",
        memory_metric="cuda max_memory_allocated",
        memory_bytes=None,
        memory_estimated_bytes=None,
        training_tokens=1000,
        training_seconds=seconds,
        training_estimated_seconds=100.0,
    )
    return Measured(attempt=attempt, measurement=found)


def test_a_measurement_is_kept_once_an_attempt(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    book.append("run-1", AT, taken(), Collected(folder="/runs/run-1"))
    book.append("run-1", AT, taken(seconds=1.0), Collected(folder="/runs/run-1"))
    events = [event for _, event in book.events("run-1")]
    assert [e for e in events if isinstance(e, Measured)] == [taken()]
    assert measurements(path) == [taken().measurement]


def test_a_run_counts_once_by_its_latest_attempt(path: Path, small_plan: Plan) -> None:
    book = Ledger(path)
    begin(book, small_plan)
    begin(book, small_plan, "run-2")
    book.append("run-1", AT, taken(1), taken(2, 80.0))
    book.append("run-2", AT, taken(1, 70.0))
    assert sorted(m.training_seconds for m in measurements(path)) == [70.0, 80.0]


def test_reading_measurements_leaves_nothing_behind(path: Path, small_plan: Plan) -> None:
    assert measurements(path) == []
    assert not path.parent.exists()
    begin(Ledger(path), small_plan)
    gc.collect()  # closes it
    assert list(path.parent.iterdir()) == [path]
    assert measurements(path) == []
    assert list(path.parent.iterdir()) == [path]


def test_a_ledger_that_cannot_be_read_is_said(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, and long enough to be read as one" * 40)
    with pytest.raises(OutsideFailed, match="cannot be read"):
        measurements(path)


def test_a_ledger_of_version_1_is_read_and_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript((FIXTURES / "ledger_v1.sql").read_text())
    assert measurements(path) == []
    assert db.execute("PRAGMA user_version").fetchone() == (1,)  # reading changed nothing
    db.close()
    book = Ledger(path)
    run, plan = book.run("old-run"), book.plan("old-run")
    assert (run.state, run.folder) == ("SUCCEEDED", "/runs/old-run")
    assert plan.chosen is not None
    assert plan.chosen.estimate is not None
    assert plan.chosen.estimate.calibrated_on == 0
    (attempt,) = run.attempts  # billed as it was metered: by the second, nothing else
    assert (attempt.billing_seconds, attempt.billing_minimum_seconds) == (1, 0)
    assert (attempt.egress_microusd, attempt.price_as_of) == (0, "")
    assert len(book.events("old-run")) == 7
    book.append("old-run", AT, taken())
    assert measurements(path) == [taken().measurement]


@pytest.mark.parametrize(
    "read",
    [
        Ledger.runs,
        Ledger.caps,
        Ledger.undecided,
        Ledger.going_on,
        lambda book: book.run("run-1"),
        lambda book: book.plan("run-1"),
        lambda book: book.climb("run-1"),
        lambda book: book.events("run-1"),
        lambda book: book.decided("run-1"),
        lambda book: book.adopted("run-1"),
        lambda book: book.ended("ranks"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_trouble_outside(path: Path, small_plan: Plan, read):
    """Whoever follows or guards a run goes on after such."""
    book = Ledger(path)
    begin(book, small_plan)
    book._db.close()
    with pytest.raises(OutsideFailed, match="the ledger cannot be read: "):
        read(book)
