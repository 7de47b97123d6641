"""Whose turn it is, with launchers that begin their member here and end as they are told."""

from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from launcher import portfolios, turns
from launcher.errors import LaunchError
from launcher.recipes import Flags
from launcher.running import climbs, launchers
from launcher.running.clock import utc_now
from launcher.running.portfolios import may_take, standings
from launcher.running.reconciling import ledger
from launcher.types import Portfolio
from tests.unit.launcher.renting import CARD, Rented, end, runner
from tests.unit.launcher.test_portfolios import SWEEP, planned, quiet

__all__ = ["runner"]  # the fixture


class Launcher:
    """One that begins its member at once, and ends, as often as it is asked, at the second look."""

    def __init__(self, run_id: str, *, sees_through: bool) -> None:
        self.run_id, self.returncode, self.looks = run_id, None, 0
        self.sees_through = sees_through
        try:
            portfolios.begin_member(run_id, quiet)
        except LaunchError as error:
            self.returncode = error.exit_code

    def poll(self) -> int | None:
        self.looks += 1
        if self.returncode is None and (self.looks > 2 or not self.sees_through):
            self.returncode = 0 if self.sees_through else 4
            if self.sees_through:
                end(self.run_id, 0.95, 0.01, None)
        return self.returncode


@pytest.fixture
def started(runner: Rented, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def start(run_id: str, *, agreed: bool, folder: Path) -> Launcher:
        found.append(run_id)
        return Launcher(run_id, sees_through=run_id != "ranks-1")

    monkeypatch.setattr(launchers, "start", start)
    monkeypatch.setattr(turns, "LOOK_SECONDS", 0.0)
    return found


def all_see_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(run_id: str, *, agreed: bool, folder: Path) -> Launcher:
        return Launcher(run_id, sees_through=True)

    monkeypatch.setattr(launchers, "start", start)


def phases() -> list[str]:
    book = ledger()
    return [one.phase for one in standings(book, _made())]


def _made() -> Portfolio:
    made = ledger().portfolio("ranks")
    assert made is not None
    return made


def test_at_once_means_as_many_as_the_cap_holds(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_see_through(monkeypatch)
    cap = planned(100).members[0].worst_microusd * 1.5 / 1e6
    portfolios.begin(msgspec.structs.replace(planned(cap), at_once=2), "yes", None)
    turns.see_through("ranks", quiet)
    assert phases() == ["over", "over", "over"]


def test_a_member_that_another_sees_through_is_waited_for(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    portfolios.begin(planned(6), "yes", None)
    said: list[str] = []
    with ExitStack() as another:
        another.enter_context(climbs.at_it("ranks-1"))
        waited: list[list[str]] = []

        def sleep(seconds: float) -> None:
            waited.append(list(started))
            if len(waited) == 50:
                end("ranks-1", 0.95, 0.01, None)
                another.close()

        monkeypatch.setattr(turns.time, "sleep", sleep)
        turns.see_through("ranks", said.append)
    assert waited[:50] == [["ranks-1"]] * 50  # one at a time
    assert phases() == ["over", "over", "over"]
    assert len(said) < 10


def test_this_machine_does_not_train_a_second_beside_one_whose_launcher_is_gone(
    started: list[str],
) -> None:
    made = portfolios.plan(
        (), Flags(providers=("local",)), SWEEP, portfolio_id="ranks", store="runs",
        at_most_microusd=None, at_once=1, climbs_on=False, now=utc_now(),
    )  # fmt: skip
    portfolios.begin(made, "ask", None)
    turns.see_through("ranks", quiet)
    assert started == ["ranks-1"]
    assert phases() == ["open", "waiting", "waiting"]


def test_what_a_climb_has_left_between_two_rungs_is_not_another_s(started: list[str]) -> None:
    gate = "gates=[{metric: exact_match, min: 0.9}]"
    sweep = [(f"lora.r={rank}", gate) for rank in (2, 4, 8)]
    made = portfolios.plan(
        (), Flags(max_cost=6.0, providers=("runpod",), gpu=CARD, strategy="qlora"), sweep,
        portfolio_id="ranks", store="runs", at_most_microusd=None, at_once=2, climbs_on=True,
        now=utc_now(),
    )  # fmt: skip
    portfolios.begin(made, "yes", None)
    book = ledger()
    portfolios.begin_member("ranks-1", quiet)
    own = book.plan("ranks-1").budget.max_cost_microusd or 0
    end("ranks-1", 0.5, 0.01)
    members = _made().members
    assert may_take(book, _made(), members[1]) == members[1].worst_microusd
    assert book.caps()["ranks-1"] == own > members[0].worst_microusd


def test_it_has_ended_when_what_it_left_is_home(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_see_through(monkeypatch)
    portfolios.begin(planned(6), "yes", None)
    turns.see_through("ranks", quiet)
    assert ledger().going_on() == ["ranks"]  # who is killed now leaves it to another
    portfolios.bring_home("ranks")
    turns.settle("ranks")
    assert ledger().going_on() == []
