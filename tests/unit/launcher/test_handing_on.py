"""A machine that goes from one job of a portfolio to the next: plans, ledger and budgets are real,
the machine is told."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import GateResult, Result, encode
from launcher import guard, paths, portfolios
from launcher.executors.base import Sight
from launcher.executors.skypilot import SkyPilotExecutor, cluster_of
from launcher.handing_on import hand_on
from launcher.inputs.sweeps import combinations
from launcher.ledger import Ledger
from launcher.running import climbs
from launcher.running.clock import clock_of, utc_now
from launcher.running.finishing import finish
from launcher.running.reconciling import ledger
from launcher.times import stamp
from launcher.types import Portfolio, Run
from tests.unit.launcher.plans import dollars
from tests.unit.launcher.renting import CARD, Rented, rent_from, runner
from tests.unit.launcher.test_portfolios import planned, quiet

__all__ = ["runner"]  # the fixture
NAMES = SkyPilotExecutor()  # only asked for handles


class Machines(Rented):
    """Machines that can be fetched from, handed on and given back."""

    def __init__(self) -> None:
        super().__init__()
        self.released: list[str] = []

    def handle(self, run_id: str, attempt: int) -> str:
        return NAMES.handle(run_id, attempt)

    def handle_on(self, held: str, run_id: str, attempt: int) -> str:
        return NAMES.handle_on(held, run_id, attempt)

    def folder(self, handle: str) -> Path:
        return NAMES.folder(handle)

    @contextmanager
    def exclusive(self, handle: str, seconds: float) -> Iterator[None]:
        yield

    def bring(self, handle: str, until: datetime) -> None:
        pass

    def release(self, handle: str) -> None:
        self.released.append(cluster_of(handle))


@pytest.fixture
def machines(runner: Rented, monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines()
    rent_from(found, monkeypatch)
    return found


def begun(
    cap: float, *sets: str, sweep: str = "lora.r=2,4,8", gpu: str | None = CARD
) -> tuple[Ledger, Portfolio]:
    made = planned(cap, *sets, sweeps=combinations((sweep,)), gpu=gpu)
    portfolios.begin(made, "yes", None)
    found = ledger().portfolio("ranks")
    assert found is not None
    portfolios.begin_member("ranks-1", quiet)
    return ledger(), found


def over(
    run_id: str,
    *,
    minutes: float = 10,
    passed: bool = True,
    failed: bool = False,
    seen_through: bool = True,
) -> Run:
    """The run's job has ended and its files are here; whoever sees it through looks, and somebody
    sees the portfolio through, or nobody does."""
    book = ledger()
    run = book.run(run_id)
    ago = stamp(utc_now() - timedelta(minutes=minutes))
    with book._transaction():
        book._db.execute("UPDATE attempts SET started_at = ? WHERE run_id = ?", (ago, run_id))
    folder = paths.work_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    gate = GateResult(metric="exact_match", min=0.9, max=None, value=0.95, passed=passed)
    result = Result(run_id=run_id, status="success", gates=(gate,))
    if not failed:
        (folder / layout.RESULT).write_bytes(encode(result))
    sight = Sight(alive=False, started=True, result=None if failed else result, billed=True)
    run = book.run(run_id)
    with climbs.at_it("ranks") if seen_through else nullcontext():
        finish(book, run, run.attempts[-1], sight, hand_on=hand_on(run_id, quiet))
    return book.run(run_id)


def test_the_next_job_takes_the_machine_and_pays_from_then_on(machines: Machines) -> None:
    book, _ = begun(4)
    first = over("ranks-1")
    assert (first.state, first.attempts[0].machine) == ("SUCCEEDED", "GONE")
    second = book.run("ranks-2")
    assert (second.state, second.attempts[0].machine) == ("RUNNING", "UP")
    handles = [first.attempts[0].handle, second.attempts[0].handle]
    assert [cluster_of(handle) for handle in handles] == ["loralift-ranks-1-1"] * 2
    assert NAMES.folder(handles[1]) == paths.work_folder("ranks-2")
    assert machines.released == []
    gone = datetime.fromisoformat(first.attempts[0].gone_at or "")
    begun_at = datetime.fromisoformat(second.attempts[0].started_at)
    assert timedelta(0) <= begun_at - gone < timedelta(seconds=1)
    plan = book.plan("ranks-2")
    assert plan.chosen is not None
    assert "on the machine of ranks-1" in plan.chosen.reason
    assert [c.offer.held for c in plan.fallbacks] == [""] * len(plan.fallbacks)


def test_it_costs_less_than_a_machine_of_its_own(machines: Machines) -> None:
    book, made = begun(4)
    over("ranks-1")
    there, fresh = book.plan("ranks-2").chosen, made.members[1].plan.chosen
    assert there is not None
    assert fresh is not None
    assert there.expected_microusd < fresh.expected_microusd
    assert there.worst_microusd < fresh.worst_microusd


def test_the_last_one_s_machine_is_given_back(machines: Machines) -> None:
    begun(4)
    for number in (1, 2, 3):
        over(f"ranks-{number}")
    assert machines.released == ["loralift-ranks-1-1"]


@pytest.mark.parametrize("how", [{"failed": True}, {"minutes": 170}])
def test_a_failed_job_s_machine_or_one_that_the_cap_does_not_hold_is_given_back(
    machines: Machines, how: dict[str, bool]
) -> None:
    book, _ = begun(1.2)
    over("ranks-1", **how)
    assert machines.released == ["loralift-ranks-1-1"]
    assert book.find("ranks-2") is None


def test_a_stopped_portfolio_hands_nothing_on(machines: Machines) -> None:
    book, _ = begun(4)
    from launcher.running.portfolios import end

    end(book, "ranks", "cancelled")
    over("ranks-1")
    assert machines.released == ["loralift-ranks-1-1"]
    assert book.find("ranks-2") is None


def test_a_job_that_needs_another_card_gets_its_own(machines: Machines) -> None:
    models = "model.id=Qwen/Qwen2.5-1.5B,Qwen/Qwen2.5-14B"
    book, _ = begun(100, "lora.r=4", sweep=models, gpu=None)
    over("ranks-1")
    assert machines.released == ["loralift-ranks-1-1"]
    assert book.find("ranks-2") is None


def test_all_of_them_stay_within_the_cap(machines: Machines) -> None:
    book, made = begun(1.5)
    for number in (1, 2, 3):
        if book.find(f"ranks-{number}") is None:
            break
        run = over(f"ranks-{number}", minutes=20)
        assert run.state == "SUCCEEDED"
    caps = [
        book.plan(f"ranks-{n}").budget.max_cost_microusd or 0
        for n in (1, 2, 3)
        if book.find(f"ranks-{n}") is not None
    ]
    assert len(caps) >= 2
    assert portfolios.receipt("ranks").spent_microusd <= dollars(1.5)
    assert all(cap <= dollars(1.5) for cap in caps)
    assert made.cap_microusd == dollars(1.5)


def test_no_machine_goes_to_a_job_that_nobody_would_follow(machines: Machines) -> None:
    book, _ = begun(4)
    over("ranks-1", seen_through=False)
    assert book.find("ranks-2") is None
    assert machines.released == ["loralift-ranks-1-1"]


def test_what_was_to_cost_nothing_takes_no_rented_machine(machines: Machines) -> None:
    portfolios.begin(planned(4), "ask", None)
    portfolios.begin_member("ranks-1", quiet, yes=True)
    over("ranks-1")
    assert ledger().find("ranks-2") is None


def test_a_guard_that_looked_before_does_not_end_the_next_job_s_machine(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, _ = begun(4)
    seen = book.runs()
    monkeypatch.setattr("launcher.guard.executor", lambda name: machines)
    monkeypatch.setattr(Ledger, "runs", lambda self: seen)
    over("ranks-1")
    due = clock_of(book.plan("ranks-1"), book.run("ranks-1")).end_at + timedelta(seconds=1)
    monkeypatch.setattr("launcher.guard.utc_now", lambda: due)
    assert list(guard.round_of(book)) == []
    assert machines.released == []
    assert book.run("ranks-2").state == "RUNNING"
