"""Several jobs under one cap: `launch A.yaml B.yaml …` and `--sweep`, to the one receipt."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from launcher.commands.output import ending_with, say, transfers_shown, write_json
from launcher.commands.through import (
    ENDED_BADLY_EXITS,
    INTERRUPTED_EXIT,
    OVER_BUDGET_EXIT,
    require_a_way_home,
    require_alone,
)
from launcher.errors import GATE_FAILED_EXIT, BadInput, NothingFits, OutsideFailed

if TYPE_CHECKING:
    from launcher.recipes import Flags
    from launcher.running.budgets import Project
    from launcher.types import Escalate, Portfolio, PortfolioReceipt, Standing


def train_several(
    named: tuple[str, ...],
    asked: "Flags",
    sweeps: tuple[str, ...],
    *,
    portfolio_id: str | None,
    store: str,
    project: "Project | None",
    at_once: int,
    escalates: bool,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    detach: bool,
    ask: Callable[[str], None],
) -> None:
    """Plan all of them, show, ask once, begin, and see them through. `ask` raises where nobody
    agrees to spend."""
    from launcher import api, portfolios
    from launcher.display.portfolios import plan_text
    from launcher.inputs.sweeps import combinations

    made = portfolios.plan(
        named,
        asked,
        combinations(sweeps),
        portfolio_id=portfolio_id,
        store=store,
        at_most_microusd=api.project_left(project) if project is not None else None,
        at_once=at_once,
        climbs_on=escalates,
        now=api.utc_now(),
    )
    if dry_run and as_json:
        write_json(made)
    else:
        click.echo(plan_text(made), err=as_json, nl=False)
    chosen = [member.plan.chosen for member in made.members if member.plan.chosen is not None]
    if not chosen:
        raise NothingFits("nothing fits any of them; `launch RECIPE --dry-run` says what would")
    if dry_run:
        if len(chosen) < len(made.members):
            raise NothingFits(
                f"{len(made.members) - len(chosen)} of {len(made.members)} fit nowhere"
            )
        return
    for choice in chosen:
        require_a_way_home(choice, detach, made.store)
    agreed = yes
    if any(choice.worst_microusd for choice in chosen) and not yes:
        ask(f"Spend {_most(made)} on {len(chosen)} jobs, what follows failed gates included?")
        agreed = True
    escalate: Escalate = "yes" if agreed else "ask"
    with portfolios.at_it(made.portfolio_id) as alone:
        require_alone(alone, made.portfolio_id)
        portfolios.begin(made, escalate, project)
        if not detach:
            see_through(made.portfolio_id, as_json)
    if detach:
        leave(made.portfolio_id, agreed, as_json)


def _most(made: "Portfolio") -> str:
    """What all of them may cost, in words: their cap, else the sum of their own."""
    from results.receipt import at_most

    own = sum(member.plan.budget.max_cost_microusd or 0 for member in made.members)
    return f"up to {at_most(own if made.cap_microusd is None else made.cap_microusd)} in all"


def leave(portfolio_id: str, agreed: bool, as_json: bool) -> None:
    """Go on without a terminal."""
    from launcher import paths
    from launcher.running import launchers

    launchers.start(portfolio_id, agreed=agreed)
    say(f"{portfolio_id} goes on by itself, see {paths.climb_log(portfolio_id)}")
    _say_where_to_look(portfolio_id)
    if as_json:
        write_json({"portfolio_id": portfolio_id, "state": "RUNNING"})


def _say_where_to_look(portfolio_id: str) -> None:
    say(
        f"launch status {portfolio_id}, launch cancel {portfolio_id}; should its launcher end, "
        f"`launch guard` goes on with it, or `launch --run-id {portfolio_id}`"
    )


def go_on_with(portfolio_id: str, as_json: bool) -> None:
    """Begin what of the portfolio has not been, and see it through. Raises BadInput."""
    from launcher import portfolios

    with portfolios.at_it(portfolio_id) as alone:
        require_alone(alone, portfolio_id)
        portfolios.require_not_stopped(portfolio_id)
        see_through(portfolio_id, as_json)


@transfers_shown()
def see_through(portfolio_id: str, as_json: bool) -> None:
    """To the end of all of them and the receipt; exit as the worst of them did."""
    from launcher import portfolios, turns
    from launcher.display.portfolios import receipt_text

    try:
        turns.see_through(portfolio_id, say)
    except KeyboardInterrupt:
        say("\nwhat is under way goes on; nothing more is begun from here")
        _say_where_to_look(portfolio_id)
        if as_json:
            write_json({"portfolio_id": portfolio_id, "state": "RUNNING"})
        sys.exit(INTERRUPTED_EXIT)
    receipt, place, troubles = portfolios.bring_home(portfolio_id)
    turns.settle(portfolio_id)
    code = exit_code(receipt) or (troubles[0].exit_code if troubles else 0)
    with ending_with(code):
        if as_json:
            write_json(receipt)
        else:
            click.echo("\n" + receipt_text(receipt), nl=False)
            click.echo(f"receipt: {place}")
        for trouble in troubles:
            say(f"error: {trouble}")
        if code == OutsideFailed.exit_code:
            say(f"not all of them are at their end; `launch --run-id {portfolio_id}` tries again")


def begin_member(run_id: str, yes: bool) -> None:
    """Plan a member at the prices of now, and start it. Raises as `portfolios.begin_member`."""
    from launcher import api, portfolios
    from launcher.display.plans import plan_text

    try:
        made = portfolios.begin_member(run_id, say, yes)
    except BadInput:
        if not api.exists(run_id):
            raise
        return  # it was handed a machine meanwhile, and is followed from here
    click.echo(plan_text(made), err=True)


# The first of these that any of them ended with is what the command ends with.
_WORST_FIRST = (1, 2, OutsideFailed.exit_code, OVER_BUDGET_EXIT, GATE_FAILED_EXIT)


def exit_code(receipt: "PortfolioReceipt") -> int:
    codes = {_code(one, receipt.stopped) for one in receipt.members}
    return next((code for code in _WORST_FIRST if code in codes), 0)


def _code(one: "Standing", stopped: str) -> int:
    if one.phase in ("waiting", "open"):
        return 1 if stopped else OutsideFailed.exit_code
    if one.phase == "skipped":
        return OVER_BUDGET_EXIT if one.cut_short else 2
    if one.state != "SUCCEEDED":
        return ENDED_BADLY_EXITS.get(one.reason or "", 1)
    if one.reason == "GATE_FAILED":
        return OVER_BUDGET_EXIT if one.cut_short else GATE_FAILED_EXIT
    return 0
