"""Budgets that several runs draw on: the ledger is real, and so are the threads."""

import threading
from pathlib import Path

import msgspec
import pytest

from launcher.errors import BadInput, NothingFits
from launcher.events import AttemptStarted, BudgetSet, MachineChanged, RunCreated, StateChanged
from launcher.ledger import Ledger
from launcher.running.budgets import (
    Project,
    account,
    least_left,
    left,
    project,
    project_left,
    require_room,
)
from launcher.types import Budget, Origin, Plan
from tests.unit.launcher.plans import dollars

AT = "2026-11-21T00:00:00.000+00:00"
AN_HOUR_LATER = "2026-11-21T01:00:00.000+00:00"
FILTERS = "project/filters"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def attempt(usd_per_hour: float = 1.0) -> AttemptStarted:
    return AttemptStarted(
        attempt=1, executor="process", handle="process:/w", provider="local", instance="cpu",
        microusd_per_hour=dollars(usd_per_hour),
    )  # fmt: skip


def start(
    book: Ledger, plan: Plan, run_id: str, most: float, budgets: tuple[str, ...], rate: float = 1.0
) -> None:
    """As submit does: the run and what it may cost, in one transaction."""
    budget = Budget(max_cost_microusd=dollars(most))
    plan = msgspec.structs.replace(plan, run_id=run_id, budget=budget)
    with book.alone():
        book.append(
            run_id, AT, RunCreated(plan=plan, store="/runs", origin=Origin(budgets=budgets))
        )
        require_room(book, run_id, budgets, dollars(most), attempt(rate))
        book.append(run_id, AT, attempt(rate), StateChanged(attempt=1, state="PROVISIONING"))


def end(book: Ledger, run_id: str) -> None:
    """After an hour; it failed, and that counts as well."""
    gone = MachineChanged(attempt=1, state="GONE", at=AN_HOUR_LATER)
    failed = StateChanged(attempt=1, state="FAILED", reason="LOST")
    book.append(run_id, AN_HOUR_LATER, failed, gone)


def funded(path: Path, plan: Plan, cap: float) -> Ledger:
    book = Ledger(path)
    start(book, plan, "first", 0, (), rate=0)
    book.append("first", AT, BudgetSet(name=FILTERS, cap_microusd=dollars(cap)))
    return book


def test_a_run_under_way_takes_its_cap_and_an_ended_one_what_it_cost(
    path: Path, small_plan: Plan
) -> None:
    book = funded(path, small_plan, 10)
    start(book, small_plan, "a", 6, (FILTERS,))
    end(book, "a")
    assert left(book, FILTERS) == dollars(9)
    assert account(book, "filters").spent_microusd == dollars(1)


def test_what_costs_nothing_takes_nothing(path: Path, small_plan: Plan) -> None:
    book = funded(path, small_plan, 10)
    start(book, small_plan, "free", 10, (FILTERS,), rate=0)
    assert left(book, FILTERS) == dollars(10)


def test_the_scarcest_budget_decides(path: Path, small_plan: Plan) -> None:
    book = funded(path, small_plan, 10)
    book.append("first", AT, BudgetSet(name="a", cap_microusd=dollars(3)))
    assert least_left(book, (FILTERS, "a")) == dollars(3)
    with pytest.raises(NothingFits, match=r"the budget of a has \$3 left, and run b may take \$4"):
        start(book, small_plan, "b", 4, (FILTERS, "a"))
    assert book.find("b") is None  # all or nothing


def test_many_launchers_never_take_the_same_dollars(path: Path, small_plan: Plan) -> None:
    funded(path, small_plan, 10)
    started, refused = [], []
    barrier = threading.Barrier(8)

    def launcher(number: int) -> None:
        book = Ledger(path)
        barrier.wait()
        try:
            start(book, small_plan, f"run-{number}", 3, (FILTERS,), rate=1e-6)
            started.append(number)
        except NothingFits:
            refused.append(number)

    threads = [threading.Thread(target=launcher, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(started), len(refused)) == (3, 5)
    book = Ledger(path)
    assert left(book, FILTERS) == dollars(1)
    found = account(book, "filters")
    assert found.held_microusd + found.spent_microusd == dollars(9)


@pytest.mark.parametrize(
    ("text", "found"),
    [("filters", Project("filters", None)), ("f-1:2.5", Project("f-1", dollars(2.5)))],
)
def test_a_project_is_a_name_and_maybe_its_cap(text: str, found: Project) -> None:
    assert project(text) == found


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b:3", "a:", "a:x", "a:-1", "a:nan", "a:inf", "a:1e9"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--project"):
        project(text)


def test_a_new_project_needs_a_cap(path: Path, small_plan: Plan) -> None:
    book = funded(path, small_plan, 10)
    assert project_left(book, Project("filters", None)) == dollars(10)
    assert project_left(book, Project("filters", dollars(12))) == dollars(12)
    with pytest.raises(BadInput, match="--project new:USD gives it one"):
        project_left(book, Project("new", None))
