"""What a member of a portfolio may take and may begin, when several launchers are at it."""

import shutil
from pathlib import Path

import pytest

from jobs.spec import encode
from launcher import api, paths, portfolios
from launcher.errors import BadInput, NotHere, NothingFits
from launcher.executors.base import Sight
from launcher.plans import plan_again
from launcher.recipes import Flags
from launcher.running.clock import utc_now
from launcher.running.portfolios import end as end_of
from launcher.running.portfolios import standings
from launcher.running.reconciling import ledger
from launcher.types import Plan
from tests.unit.launcher.plans import dollars
from tests.unit.launcher.renting import Rented, end, runner
from tests.unit.launcher.test_portfolios import begun, planned, quiet

__all__ = ["runner"]  # the fixture


def phases() -> list[str]:
    book = ledger()
    made = book.portfolio("ranks")
    assert made is not None
    return [one.phase for one in standings(book, made)]


def test_two_that_are_planned_at_once_both_begin(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(6)

    def another_begins_meanwhile(made: Plan, *_: object) -> Plan:
        monkeypatch.setattr(api, "ready", lambda made, *_: made)
        portfolios.begin_member("ranks-2", quiet)
        return made

    monkeypatch.setattr(api, "ready", another_begins_meanwhile)
    portfolios.begin_member("ranks-1", quiet)
    book = ledger()
    caps = [book.plan(f"ranks-{n}").budget.max_cost_microusd or 0 for n in (1, 2)]
    assert phases() == ["open", "open", "waiting"]
    assert sum(caps) <= dollars(6) - planned(6).members[2].worst_microusd


def test_money_that_others_hold_may_come_back(runner: Rented) -> None:
    begun(planned(100).members[0].worst_microusd * 1.5 / 1e6)
    portfolios.begin_member("ranks-1", quiet)
    with pytest.raises(NothingFits):
        portfolios.begin_member("ranks-2", quiet)
    assert phases() == ["open", "waiting", "waiting"]
    end("ranks-1", 0.95, 0.01, None)
    portfolios.begin_member("ranks-2", quiet)
    assert phases() == ["over", "open", "waiting"]


def test_what_was_to_cost_nothing_is_not_paid_unasked(runner: Rented) -> None:
    portfolios.begin(planned(4), "ask", None)
    with pytest.raises(BadInput, match=r"would cost up to .*\n.*--run-id ranks-1 --yes"):
        portfolios.begin_member("ranks-1", quiet)
    assert phases() == ["skipped", "waiting", "waiting"]
    portfolios.begin_member("ranks-1", quiet, yes=True)
    assert phases() == ["open", "waiting", "waiting"]


def test_what_this_environment_lacks_is_not_the_member_s_fault(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by cron's `launch guard`, which has none of the user's variables."""

    def lacking(self: Rented) -> None:
        raise NotHere("docker has no image")

    begun(4)
    with monkeypatch.context() as cron:
        cron.setattr(Rented, "require_ready", lacking)
        with pytest.raises(NotHere):
            portfolios.begin_member("ranks-1", quiet)
    assert phases() == ["waiting", "waiting", "waiting"]
    portfolios.begin_member("ranks-1", quiet)
    assert phases() == ["open", "waiting", "waiting"]


def test_a_portfolio_that_has_ended_is_not_cancelled(runner: Rented) -> None:
    book, _ = begun(4)
    end_of(book, "ranks")
    with pytest.raises(BadInput, match="ranks has ended already"):
        portfolios.cancel("ranks")
    assert book.ended("ranks") == ""


def test_a_member_that_ended_unseen_does_not_spoil_the_cancel(
    runner: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(4)
    portfolios.begin_member("ranks-1", quiet)
    over = Sight(alive=False, started=True, result=None, billed=False)
    monkeypatch.setattr(Rented, "look", lambda self, handle: over)
    assert portfolios.cancel("ranks").stopped == "cancelled"
    assert phases() == ["over", "waiting", "waiting"]


def test_what_cannot_be_collected_does_not_cost_the_others_their_receipt(
    runner: Rented, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun(4)
    portfolios.begin_member("ranks-1", quiet)
    monkeypatch.setattr("launcher.running.collecting.executor", lambda name: runner)
    never = Sight(alive=False, started=False, result=None, billed=False, setup_failed=True)
    monkeypatch.setattr(Rented, "look", lambda self, handle: never)
    portfolios.looked_at("ranks")
    shutil.rmtree(paths.work_folder("ranks-1"))
    receipt, place, troubles = portfolios.bring_home("ranks")
    assert place.is_file()
    assert receipt.members[0].state == "FAILED"
    assert ["gone" in str(one) for one in troubles] == [True]


def test_a_saved_spec_is_planned_for_the_same_devices_when_its_turn_comes(
    runner: Rented, tmp_path: Path
) -> None:
    first = planned(4).members[0].plan
    assert first.chosen is not None
    assert first.chosen.spec is not None
    (tmp_path / "spec.json").write_bytes(encode(first.chosen.spec))
    made = portfolios.plan(
        ("spec.json", "sample"), Flags(max_cost=4, providers=("runpod",)), [()],
        portfolio_id="specs", store="runs", at_most_microusd=None, at_once=1, climbs_on=False,
        now=utc_now(),
    )  # fmt: skip
    member = made.members[0]
    again = plan_again(member.plan, member.plan.budget, member.run_id, now=utc_now())
    devices = {(one.offer.device.kind, one.offer.count) for one in again.candidates}
    assert devices == {(first.chosen.spec.device, first.chosen.spec.processes)}
