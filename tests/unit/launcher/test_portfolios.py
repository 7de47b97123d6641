"""Portfolios of rented machines: plans, ledger and budgets are real, the machines are told."""

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import EvalRecord, GateResult, Result
from launcher import portfolios
from launcher.commands.several import exit_code
from launcher.display.portfolios import plan_text, receipt_text
from launcher.errors import BadInput, NothingFits
from launcher.inputs.sweeps import combinations
from launcher.ladder import best_of
from launcher.ledger import Ledger
from launcher.recipes import Flags
from launcher.running.clock import utc_now
from launcher.running.portfolios import may_take, share, standings
from launcher.running.reconciling import ledger
from launcher.running.runs import home_of
from launcher.types import Portfolio, PortfolioReceipt, Standing
from results.records import validation_loss
from tests.unit.launcher.plans import dollars
from tests.unit.launcher.renting import CARD, Rented, end, runner

__all__ = ["runner"]  # the fixture
SWEEP = combinations(("lora.r=2,4,8",))


def planned(
    cap: float,
    *sets: str,
    sweeps: list[tuple[str, ...]] = SWEEP,
    strategy: str | None = None,
    gpu: str | None = CARD,
) -> Portfolio:
    return portfolios.plan(
        (),
        Flags(strategy=strategy, max_cost=cap, providers=("runpod",), gpu=gpu, sets=sets),
        sweeps,
        portfolio_id="ranks",
        store="runs",
        at_most_microusd=None,
        at_once=1,
        climbs_on=False,
        now=utc_now(),
    )


def begun(cap: float) -> tuple[Ledger, Portfolio]:
    portfolios.begin(planned(cap), "yes", None)
    book = ledger()
    found = book.portfolio("ranks")
    assert found is not None
    return book, found


def quiet(line: str) -> None:
    pass


def test_a_member_may_take_what_those_that_wait_do_not_need(runner: Rented) -> None:
    book, made = begun(4)
    worst = [member.worst_microusd for member in made.members]
    assert may_take(book, made, made.members[0]) == dollars(4) - worst[1] - worst[2]
    portfolios.begin_member("ranks-1", quiet)
    assert may_take(book, made, made.members[1]) == worst[1]  # the first holds what was left over
    end("ranks-1", 0.95, 0.1, None)
    spent = standings(book, made)[0].spent_microusd
    assert spent > 0
    assert may_take(book, made, made.members[1]) == dollars(4) - spent - worst[2]


def test_it_has_what_it_takes_at_worst_before_those_that_wait(runner: Rented) -> None:
    worst = planned(100).members[0].worst_microusd
    book, made = begun(worst * 1.5 / 1e6)
    assert may_take(book, made, made.members[0]) == worst
    portfolios.begin_member("ranks-1", quiet)
    left = made.cap_microusd - worst
    assert may_take(book, made, made.members[1]) == left
    end("ranks-1", 0.95, 1.0, None)
    with pytest.raises(NothingFits):
        portfolios.begin_member("ranks-2", quiet)
    found = standings(book, made)
    assert [one.phase for one in found] == ["over", "skipped", "waiting"]
    assert found[1].cut_short


MONEY = st.integers(0, dollars(10))


@given(left=MONEY, worst=MONEY, waiting=st.lists(MONEY, max_size=5))
def test_a_share_leaves_the_others_theirs_where_there_is_so_much(
    left: int, worst: int, waiting: list[int]
) -> None:
    found = share(left, worst, sum(waiting))
    assert min(worst, left) <= found <= left
    if worst + sum(waiting) <= left:
        assert left - found == sum(waiting)


def test_a_stopped_portfolio_begins_nothing(runner: Rented) -> None:
    book, made = begun(4)
    portfolios.cancel("ranks")
    with pytest.raises(BadInput, match="nothing more of portfolio ranks is begun: cancelled"):
        portfolios.begin_member("ranks-1", quiet)
    assert standings(book, made)[0].said == "nothing more of portfolio ranks is begun: cancelled"
    with pytest.raises(BadInput, match="ranks was cancelled"):
        portfolios.require_not_stopped("ranks")


def test_an_id_is_taken_once(runner: Rented) -> None:
    begun(4)
    with pytest.raises(BadInput, match="it exists already"):
        portfolios.begin(planned(4), "yes", None)


def test_what_people_read(runner: Rented, tmp_path: Path) -> None:
    _, made = begun(1.2)
    shown = plan_text(made)
    assert "lora.r=8" in shown
    assert "> cap" in shown
    assert "cap $1.20 over all of them" in shown
    warned = dict.fromkeys(said for one in made.members for said in one.plan.warnings)
    assert warned
    assert all(shown.count(f"WARNING {said}\n") == 1 for said in warned)
    portfolios.begin_member("ranks-1", quiet)
    end("ranks-1", 0.95, 0.1, None)
    said = receipt_text(portfolios.receipt("ranks"))
    assert "exact_match 0.95" in said
    assert "not begun yet" in said
    assert "of a cap of $1.20" in said


def standing(**fields: object) -> Standing:
    return Standing(**({"run_id": "a", "what": "", "phase": "over", "state": "SUCCEEDED"} | fields))


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([standing()], 0),
        ([standing(), standing(reason="GATE_FAILED")], 5),
        ([standing(reason="GATE_FAILED", cut_short=True)], 3),
        ([standing(phase="skipped", state=None, cut_short=True)], 3),
        ([standing(phase="skipped", state=None)], 2),
        ([standing(reason="GATE_FAILED"), standing(state="FAILED", reason="ERROR")], 1),
        ([standing(state="FAILED", reason="BUDGET_EXCEEDED")], 3),
        ([standing(phase="open", state="RUNNING"), standing()], 4),
    ],
)
def test_the_command_exits_as_the_worst_of_them(members: list[Standing], code: int) -> None:
    receipt = PortfolioReceipt(
        portfolio_id="p", cap_microusd=None, spent_microusd=0, members=tuple(members)
    )
    assert exit_code(receipt) == code


def gate(value: float, passed: bool = False) -> tuple[GateResult, ...]:
    return (GateResult(metric="exact_match", min=0.9, max=None, value=value, passed=passed),)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        # the gate's metric is of the test rows
        (standing(loss=0.5, gates=gate(0.95, True)), standing(loss=0.4, gates=gate(0.92, True))),
        (standing(loss=0.4, gates=gate(0.5)), standing(loss=0.5, gates=gate(0.9, True))),
        (standing(loss=0.3, loss_on="test"), standing(loss=0.4)),
        (standing(loss=0.3, loss_on="test"), standing(loss=0.2, loss_on="test")),
        (standing(), standing(loss=0.4, loss_on="test")),
        (standing(loss=0.4, spent_microusd=2), standing(loss=0.4, spent_microusd=1)),
    ],
)
def test_the_best_of_a_sweep_is_chosen_by_the_validation_rows(a: Standing, b: Standing) -> None:
    assert best_of([a, msgspec.structs.replace(b, run_id="b")]) == "b"


def test_a_loss_of_the_test_rows_is_said_to_be_one() -> None:
    members = (standing(loss=0.25), standing(loss=0.5, loss_on="test"))
    said = receipt_text(
        PortfolioReceipt(portfolio_id="p", cap_microusd=None, spent_microusd=0, members=members)
    )
    assert "validation loss" in said
    assert "0.2500 " in said
    assert "0.5000 of test rows" in said


@pytest.mark.parametrize(
    ("best_step", "metrics", "evaluated_on", "loss"),
    [
        (2, {"tuned": {"loss": 0.1}}, "test", 0.3),
        (None, {"tuned": {"loss": 0.1}}, "test", 0.4),
        (2, {"tuned": {"loss": 0.1}}, "validation", 0.1),
        (2, {"tuned": {"loss": 0.1}, "validation": {"loss": 0.2}}, "test", 0.2),
        (3, {"tuned": {"loss": 0.1}}, "test", None),
    ],
)
def test_the_validation_loss_is_of_the_weights_that_were_kept(
    tmp_path: Path,
    best_step: int | None,
    metrics: dict[str, dict[str, float]],
    evaluated_on: Literal["validation", "test"],
    loss: float | None,
) -> None:
    seen = (
        EvalRecord(at="", step=0, loss=9.0),
        EvalRecord(at="", step=2, loss=0.3, epoch=1.0),
        EvalRecord(at="", step=4, loss=0.4, epoch=2.0),
        EvalRecord(at="", step=4, loss=0.1),  # of the test rows, at the end
    )
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in seen))
    result = Result(
        run_id="r", status="success", metrics=metrics, evaluated_on=evaluated_on,
        best_step=best_step,
    )  # fmt: skip
    assert validation_loss(result, path) == loss


def test_what_is_swept_makes_different_jobs(runner: Rented) -> None:
    strategies = combinations(("strategy=qlora,lora",))
    with pytest.raises(BadInput, match="are one and the same job"):
        planned(100, sweeps=strategies, strategy="qlora")


def test_its_receipt_s_place_is_free_before_anything_is_begun(
    runner: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "ranks").mkdir(parents=True)
    with pytest.raises(BadInput, match="ranks exists already; choose another"):
        portfolios.begin(planned(4), "yes", None)
    assert ledger().portfolio("ranks") is None


def test_a_member_begun_elsewhere_comes_home_with_the_others(
    runner: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home_of(Path("/filters"), "s3://runs/here") == Path("/filters/runs")
    assert home_of(Path("/filters"), "kept") == Path("/filters/kept")
    monkeypatch.chdir(tmp_path)
    book, _ = begun(4)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    portfolios.begin_member("ranks-1", quiet)
    assert book.run("ranks-1").store == str(tmp_path / "runs")
