"""Portfolios as the ledger knows them: how far each member has come, and what it may take."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Literal

from jobs import layout
from launcher import paths
from launcher.errors import BadInput
from launcher.events import MemberSkipped, PortfolioEnded
from launcher.ladder import best
from launcher.ledger import Ledger
from launcher.running import climbs, launchers
from launcher.running.budgets import least_left
from launcher.running.budgets import left as left_of
from launcher.running.clock import spent, utc_now
from launcher.running.watching import run_folder
from launcher.times import stamp
from launcher.types import Candidate, Member, Portfolio, Run, Skipped, Standing
from results.records import read_result, validation_loss

BUDGET = "portfolio/"  # before its id: no run's has a slash


def find(book: Ledger, portfolio_id: str) -> Portfolio:
    """Raises BadInput where the ledger has none of that id."""
    found = book.portfolio(portfolio_id)
    if found is None:
        raise BadInput(f"no portfolio {portfolio_id} in the ledger; `launch runs` lists the runs")
    return found


def standings(book: Ledger, portfolio: Portfolio) -> tuple[Standing, ...]:
    """Each member as the ledger has it; nothing is looked at."""
    skipped = book.skipped(portfolio.portfolio_id)
    undecided = {run.climb for run in book.undecided()}
    return tuple(
        _begun(book, member, undecided)
        if book.find(member.run_id) is not None
        else _not_begun(member, skipped.get(member.run_id))
        for member in portfolio.members
    )


def _not_begun(member: Member, skipped: Skipped | None) -> Standing:
    chosen = member.plan.chosen
    return Standing(
        run_id=member.run_id,
        what=member.what,
        phase="waiting" if skipped is None else "skipped",
        where=_where(chosen) if chosen is not None else "",
        planned_microusd=chosen.expected_microusd if chosen is not None else 0,
        said=skipped.why if skipped is not None else "",
        cut_short=skipped is not None and skipped.cut_short,
    )


def _begun(book: Ledger, member: Member, undecided: set[str]) -> Standing:
    climb = climbs.climb_of(book, member.run_id)
    tried = [climbs.tried(book, climb, run) for run in climb.runs]
    over = climb.over and not (climb.climbs and climb.first in undecided)
    number = best(tried) if over else None
    counts = tried[-1] if number is None else tried[number]
    run = book.run(counts.run_id)
    first = book.plan(member.run_id).candidates[climb.runs[0].attempts[0].candidate]
    ended = book.decided(climb.last.run_id)
    loss, loss_on = _loss(run)
    return Standing(
        run_id=counts.run_id,
        what=member.what,
        phase="over" if over else "open",
        where=_where(book.plan(run.run_id).candidates[run.attempts[-1].candidate]),
        state=counts.state,
        reason=counts.reason,
        gates=counts.gates,
        loss=loss,
        loss_on=loss_on,
        runs=len(climb.runs),
        spent_microusd=sum(one.spent_microusd for one in tried),
        planned_microusd=first.expected_microusd,
        said=_said(run.message or "", ended.why if ended is not None else ""),
        cut_short=ended is not None and ended.cut_short,
    )


def _loss(run: Run) -> tuple[float | None, Literal["validation", "test"]]:
    """The kept weights' loss, and on which rows."""
    folder = run_folder(run)
    result = read_result(folder)
    if result is None:
        return None, "validation"
    found = validation_loss(result, folder / layout.METRICS)
    if found is not None:
        return found, "validation"
    return result.metrics.get("tuned", {}).get("loss"), "test"


def _said(message: str, decided: str) -> str:
    return decided or message.partition("\n")[0]


def _where(candidate: Candidate) -> str:
    return f"{candidate.offer.provider} {candidate.offer.instance}"


def holds(book: Ledger, portfolio: Portfolio, members: Iterable[Member]) -> bool:
    """Whether what is left now holds all of these members at worst, none of which is begun."""
    left = least_left(book, portfolio.origin.budgets)
    return left is None or sum(member.worst_microusd for member in members) <= left


def may_take(
    book: Ledger, portfolio: Portfolio, member: Member, after: Run | None = None
) -> int | None:
    """Micro-dollars that the member may draw, once `after` has ended, within a minute from now;
    None: there is no cap."""
    left = least_left(book, portfolio.origin.budgets, after.run_id if after is not None else "")
    if left is None:
        return None
    if after is not None:
        left = max(0, left - spent(after, utc_now() + timedelta(minutes=1)))
    others = (one for one in book.waiting(portfolio) if one.run_id != member.run_id)
    waiting = sum(one.worst_microusd for one in others)
    return share(left, member.worst_microusd, waiting + _between(book, portfolio, member))


def _between(book: Ledger, portfolio: Portfolio, member: Member) -> int:
    """What other members' climbs, which nothing is under way of now, have left of their caps."""
    waiting = {run.climb for run in book.undecided()} - {member.run_id}
    climbs_of = (one.run_id for one in portfolio.members if one.run_id in waiting)
    return sum(max(0, left_of(book, first) or 0) for first in climbs_of)


def may_hold_more(book: Ledger, portfolio: Portfolio, member: Member) -> bool:
    """Whether a member that had a place when it was planned may get one again, when others that
    are under way have not needed all that they hold."""
    others = (one for one in portfolio.members if one.run_id != member.run_id)
    begun = (one for one in others if book.find(one.run_id) is not None)
    return member.plan.chosen is not None and any(
        not climbs.climb_of(book, one.run_id).over for one in begun
    )


def share(left: int, worst: int, waiting: int) -> int:
    """Of what is left, what one job may draw that takes `worst` at worst: all but what those that
    wait take at worst, and never less than it takes itself, where there is so much."""
    return min(left, max(worst, left - waiting))


def skip(book: Ledger, portfolio: Portfolio, run_id: str, skipped: Skipped) -> None:
    event = MemberSkipped(run_id=run_id, skipped=skipped)
    book.append(portfolio.portfolio_id, stamp(utc_now()), event)


def end(book: Ledger, portfolio_id: str, why: str = "") -> None:
    book.append(portfolio_id, stamp(utc_now()), PortfolioEnded(why=why))


def carried_on(book: Ledger) -> Iterator[str]:
    """Start a launcher for each portfolio that has more to begin and that nobody is at; a line of
    each."""
    each = ((name, partial(_carried_on, book, name)) for name in book.going_on())
    return launchers.each_told(each)


def _carried_on(book: Ledger, portfolio_id: str) -> str | None:
    if climbs.is_seen_through(portfolio_id) or launchers.tried_lately(portfolio_id):
        return None
    origin = find(book, portfolio_id).origin
    launchers.start(portfolio_id, agreed=origin.escalate == "yes")
    return f"{portfolio_id}: goes on with its jobs; see {paths.climb_log(portfolio_id)}"
