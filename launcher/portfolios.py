"""Portfolios: several jobs under one cap, each a climb of its own (decisions/0015); turns.py begins
them."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import combinations
from pathlib import Path

import msgspec

from launcher import api, climbing, paths, plans, recipes
from launcher.errors import BadInput, LaunchError, NotHere, NothingFits, OutsideFailed, one_line
from launcher.events import BudgetSet, PortfolioBegun
from launcher.executors.here import ask_again, remembered
from launcher.inputs.sweeps import MOST
from launcher.ladder import best_of
from launcher.paths import is_remote
from launcher.running import climbs, portfolios
from launcher.running.budgets import Project
from launcher.running.portfolios import BUDGET, standings
from launcher.running.reconciling import ledger
from launcher.running.runs import home_of, require_place, submit
from launcher.times import stamp
from launcher.types import (
    MICROUSD,
    Budget,
    Candidate,
    Escalate,
    Member,
    Origin,
    Plan,
    Portfolio,
    PortfolioReceipt,
    Skipped,
    lowest,
)
from results.receipt import at_most

Say = Callable[[str], None]
RECEIPT = "portfolio.json"
# Of a run's 64 characters: so many are the portfolio's, and eight are left for the climb's.
_LONGEST, _LONGEST_OF_A_MEMBER = 40, 56


def plan(
    named: Sequence[str],
    flags: recipes.Flags,
    sweeps: Sequence[tuple[str, ...]],
    *,
    portfolio_id: str | None,
    store: str,
    at_most_microusd: int | None,
    at_once: int,
    climbs_on: bool,
    now: datetime,
) -> Portfolio:
    """Each recipe with each combination of a sweep, planned. Starts nothing.

    `flags.max_cost` is the cap over all of them, and no member's own may exceed it, nor what a
    project has left (`at_most_microusd`). Raises as `api.plan` does.
    """
    asked = round(flags.max_cost * MICROUSD) if flags.max_cost is not None else None
    cap, own = lowest(asked, at_most_microusd), msgspec.structs.replace(flags, max_cost=None)
    jobs = [(recipe, sets) for recipe in (named or (None,)) for sets in sweeps]
    if len(jobs) > MOST:
        raise BadInput(f"{len(jobs)} jobs: {MOST} of one portfolio at most; launch them in parts")
    portfolio_id = portfolio_id or plans.new_run_id(_name(named) or "sweep", now)
    plans.require_run_id(portfolio_id)
    if len(portfolio_id) > _LONGEST:
        raise BadInput(f"--run-id {portfolio_id}: {_LONGEST} characters at most, for several runs")
    members = []
    for number, (recipe, sets) in enumerate(jobs, start=1):
        with_sets = msgspec.structs.replace(own, swept=sets)
        made = api.plan(
            recipe,
            with_sets,
            run_id=f"{portfolio_id}-{number}",
            now=now,
            store=store,
            at_most_microusd=cap,
        )
        if recipe is not None and recipe.endswith(".json"):
            api.require_choice(made)  # its turn comes with what is chosen now, or not at all
        name = f"-{made.job.name}" if len(named) > 1 else ""
        run_id = f"{portfolio_id}-{number}{name}"[:_LONGEST_OF_A_MEMBER].rstrip("-")
        ladder = made.ladder if climbs_on else None
        if ladder is not None and len(sweeps) > 1:  # they are to differ in what is swept alone
            ladder = msgspec.structs.replace(ladder, rungs=ladder.rungs[:1])
        made = msgspec.structs.replace(made, run_id=run_id, ladder=ladder)
        what = ", ".join(filter(None, [_short(recipe) if len(named) > 1 else "", *sets]))
        members.append(Member(run_id=run_id, what=what, plan=made))
    if len(sweeps) > 1:
        _require_different(members)
    return Portfolio(
        portfolio_id=portfolio_id,
        members=tuple(members),
        cap_microusd=cap,
        store=store if is_remote(store) else str(Path(store).absolute()),
        folder=str(Path.cwd()),
        sweep=len(sweeps) > 1,
        at_once=at_once,
    )


def _require_different(swept: Sequence[Member]) -> None:
    for one, other in combinations(swept, 2):
        if (one.plan.job, one.plan.budget) == (other.plan.job, other.plan.budget):
            raise BadInput(
                f"--sweep: {one.what} and {other.what} are one and the same job; leave out what "
                "decides it for both"
            )


def _name(named: Sequence[str]) -> str:
    if len(named) > 1:
        return "portfolio"
    return re.sub(r"[^A-Za-z0-9]+", "-", _short(named[0]))[:20].strip("-") if named else "sweep"


def _short(recipe: str | None) -> str:
    return Path(recipe).stem if recipe is not None else ""


def exists(portfolio_id: str) -> bool:
    return ledger().portfolio(portfolio_id) is not None


def is_member(run_id: str) -> bool:
    """Whether a portfolio has this run to begin with, begun or not."""
    return ledger().portfolio_of(run_id) is not None


def begin(made: Portfolio, escalate: Escalate, project: Project | None) -> None:
    """Write the portfolio down, with its cap and what it has to begin. Raises BadInput."""
    budgets, sets = [], []
    if made.cap_microusd is not None:
        budgets.append(BUDGET + made.portfolio_id)
        sets.append(BudgetSet(name=budgets[0], cap_microusd=made.cap_microusd))
    if project is not None:
        budgets.append(project.budget)
        if project.cap_microusd is not None:
            sets.append(BudgetSet(name=project.budget, cap_microusd=project.cap_microusd))
    origin = Origin(escalate=escalate, budgets=tuple(budgets), portfolio=made.portfolio_id)
    require_place(home_of(Path(made.folder), made.store), made.portfolio_id)
    book, now = ledger(), stamp(api.utc_now())
    with book.alone():
        taken = [made.portfolio_id, *(member.run_id for member in made.members)]
        if book.portfolio(made.portfolio_id) is not None or any(map(book.find, taken)):
            raise BadInput(f"--run-id {made.portfolio_id}: it exists already; choose another")
        begun = PortfolioBegun(portfolio=msgspec.structs.replace(made, origin=remembered(origin)))
        book.append(made.portfolio_id, now, begun, *sets)


def at_it(portfolio_id: str) -> AbstractContextManager[bool]:
    """To be held by who begins the members; false where another does."""
    return climbs.at_it(portfolio_id)


def require_not_stopped(portfolio_id: str) -> None:
    """Raises BadInput where somebody has stopped it."""
    why = ledger().ended(portfolio_id)
    if why:
        raise BadInput(
            f"portfolio {portfolio_id} was {why}, and nothing more of it is begun; `launch status "
            f"{portfolio_id}` shows it\nlaunch what is left of its jobs anew"
        )


# --- one member -------------------------------------------------------------------------------


def begin_member(run_id: str, say: Say, yes: bool = False) -> Plan:
    """Plan the member at the prices of now, under what it may take, and start it. `yes`: somebody
    agrees to what it costs, as with the portfolio.

    One that cannot be is skipped, for good, and the error raised: BadInput or NothingFits. Others
    (NoCapacity, OutsideFailed, NotHere) leave it to be tried again, and so does a lack of money
    that others under way still hold.
    """
    book = ledger()
    portfolio = book.portfolio_of(run_id)
    assert portfolio is not None, "asked for a member"
    member = next(one for one in portfolio.members if one.run_id == run_id)
    ask_again(portfolio.origin)
    for tries_left in reversed(range(len(portfolio.members))):
        most = portfolios.may_take(book, portfolio, member)
        try:
            return _begun(portfolio, member, most, say, yes)
        except NotHere:
            raise
        except (BadInput, NothingFits) as error:
            if book.find(run_id) is not None:
                raise
            short = isinstance(error, NothingFits)
            if short and tries_left and portfolios.may_take(book, portfolio, member) != most:
                continue  # another has begun, or ended, meanwhile
            if not (short and portfolios.may_hold_more(book, portfolio, member)):
                skipped = Skipped(why=one_line(error), cut_short=short)
                portfolios.skip(book, portfolio, run_id, skipped)
            raise
    raise AssertionError("the last try returns or raises")


def _begun(portfolio: Portfolio, member: Member, most: int | None, say: Say, yes: bool) -> Plan:
    made = api.ready(_planned(member, most), portfolio.store, None, say)
    choice = api.require_choice(made)
    if not (yes or is_agreed(portfolio, choice)):
        raise BadInput(
            f"{member.run_id} would cost up to {at_most(choice.worst_microusd)} on "
            f"{choice.offer.provider}, and was to cost nothing\n"
            f"`launch --run-id {member.run_id} --yes` agrees to that"
        )
    submit(made, portfolio.store, say, origin_of(portfolio, made))
    return made


def is_agreed(portfolio: Portfolio, choice: Candidate) -> bool:
    """Whether somebody has agreed to what the choice costs, with the portfolio: nobody was asked
    where all of it was to cost nothing."""
    return not choice.worst_microusd or portfolio.origin.escalate == "yes"


def _planned(member: Member, most: int | None) -> Plan:
    budget = budget_of(member, most)
    return plans.plan_again(member.plan, budget, member.run_id, now=api.utc_now())


def budget_of(member: Member, most_microusd: int | None) -> Budget:
    """The member's own limits, and no more than it may take of the portfolio's."""
    budget = member.plan.budget
    cap = lowest(budget.max_cost_microusd, most_microusd)
    return msgspec.structs.replace(budget, max_cost_microusd=cap)


def origin_of(portfolio: Portfolio, made: Plan) -> Origin:
    """Where the run of a member's plan comes from."""
    escalate = portfolio.origin.escalate if made.ladder is not None else "no"
    return msgspec.structs.replace(portfolio.origin, escalate=escalate)


# --- all of them ------------------------------------------------------------------------------


def cancel(portfolio_id: str) -> PortfolioReceipt:
    """Begin no more members, and end those under way. Raises BadInput where it has ended already,
    and the first of what went wrong."""
    book = ledger()
    portfolio = portfolios.find(book, portfolio_id)
    found = standings(book, portfolio)
    if book.ended(portfolio_id) is not None and all(one.phase != "open" for one in found):
        raise BadInput(
            f"portfolio {portfolio_id} has ended already; `launch status {portfolio_id}` shows it"
        )
    portfolios.end(book, portfolio_id, "cancelled")
    troubles = []
    for member, one in zip(portfolio.members, standings(book, portfolio), strict=True):
        if one.phase == "open":
            try:
                climbing.cancel(member.run_id)
            except BadInput:
                pass  # it has ended meanwhile
            except LaunchError as error:  # the others' machines cost money too
                troubles.append(error)
    if troubles:
        raise troubles[0]
    return receipt(portfolio_id)


def looked_at(portfolio_id: str) -> PortfolioReceipt:
    """The same after a look at the jobs that are under way."""
    book = ledger()
    for one in standings(book, portfolios.find(book, portfolio_id)):
        if one.phase == "open":
            api.status(climbing.last_of(one.run_id))
    return receipt(portfolio_id)


def receipt(portfolio_id: str) -> PortfolioReceipt:
    """The account of them all as the ledger has it now."""
    book = ledger()
    portfolio = portfolios.find(book, portfolio_id)
    found = standings(book, portfolio)
    return PortfolioReceipt(
        portfolio_id=portfolio_id,
        cap_microusd=portfolio.cap_microusd,
        spent_microusd=sum(one.spent_microusd for one in found),
        members=found,
        best=best_of(found) if portfolio.sweep else "",
        stopped=book.ended(portfolio_id) or "",
    )


def bring_home(portfolio_id: str) -> tuple[PortfolioReceipt, Path, list[LaunchError]]:
    """Collect what has ended, and write the receipt beside it; its place, and what could not be
    collected. Raises OutsideFailed where the receipt cannot be written."""
    book, troubles = ledger(), []
    portfolio = portfolios.find(book, portfolio_id)
    for one in standings(book, portfolio):
        if one.phase == "over" and not book.run(one.run_id).folder:
            try:
                api.collect(one.run_id)
            except LaunchError as error:  # the others have a receipt all the same
                troubles.append(error)
    account = receipt(portfolio_id)
    place = home_of(Path(portfolio.folder), portfolio.store) / portfolio_id / RECEIPT
    try:
        paths.write_aside(
            place, msgspec.json.format(msgspec.json.encode(account), indent=2) + b"\n"
        )
    except OSError as error:
        raise OutsideFailed(f"{place} cannot be written: {error.strerror}") from None
    return account, place, troubles
