"""Whose turn it is: who sees a portfolio through begins its members, one after the other or several
at once, each with a launcher of its own in the background."""

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from subprocess import Popen

from launcher import paths
from launcher.catalog.providers import LOCAL
from launcher.running import climbs, launchers, portfolios
from launcher.running.portfolios import standings
from launcher.running.reconciling import ledger
from launcher.types import Member, Portfolio, Standing
from results.receipt import dollars, ended_as

Say = Callable[[str], None]
Launcher = Popen[bytes]
Launched = dict[str, Launcher]  # by the member's first run
Pairs = list[tuple[Member, Standing]]

LOOK_SECONDS = 0.5  # between two looks at the launchers
ROUNDS = 10  # of them until the ledger is read again


def see_through(portfolio_id: str, say: Say) -> None:
    """Begin the members in turn and wait for their ends; one that fails does not stop the others.

    To be called by who holds the lock; then `settle`, when what they left is home. Each member gets
    one launcher from here: what that could not bring to an end is left as it is, for who goes on
    with the portfolio later.
    """
    book = ledger()
    portfolio = portfolios.find(book, portfolio_id)
    launched: Launched = {}
    told: set[str] = set()
    while True:
        gone = [run_id for run_id, one in launched.items() if one.poll() is not None]
        found = list(zip(portfolio.members, standings(book, portfolio), strict=True))
        busy = _busy(found, launched)
        for run_id in (one for one in gone if one not in (*told, *busy)):
            told.add(run_id)
            say(_line(found, run_id))
        for member in _next(portfolio, found, busy, launched.keys()):
            launched[member.run_id] = _begun(portfolio, member)
            say(f"{member.run_id}: begun; it says what it does in {paths.climb_log(member.run_id)}")
            busy.add(member.run_id)
        if not busy and told >= launched.keys():
            break
        _wait(busy, launched)


def _busy(found: Pairs, launched: Launched) -> set[str]:
    """The members that a launcher sees through now, from here or from elsewhere."""
    busy = {run_id for run_id, launcher in launched.items() if launcher.poll() is None}
    for member, standing in found:
        gone_on_with = standing.phase == "open" or member.run_id in launched
        if gone_on_with and member.run_id not in busy:  # ours may have found another at it
            busy |= {member.run_id} if climbs.is_seen_through(member.run_id) else set()
    return busy


def _next(
    portfolio: Portfolio, found: Pairs, busy: set[str], launched: Collection[str]
) -> Iterator[Member]:
    """The members to begin, or to go on with, now. This machine trains one at a time; and who has
    to wait for what others hold of the cap does so."""
    book = ledger()
    if book.ended(portfolio.portfolio_id):
        return
    for member, standing in found:
        waits = standing.phase in ("waiting", "open") and member.run_id not in (*busy, *launched)
        others = (pair for pair in found if pair[0] is not member)
        here = _is_local(member) and any(_is_at_work(*other, busy) for other in others)
        if not waits or here:
            continue
        if len(busy) >= portfolio.at_once:
            return
        if busy and standing.phase == "waiting":
            beginning = (m for m, s in found if s.phase == "waiting" and m.run_id in busy)
            if not portfolios.holds(book, portfolio, (member, *beginning)):
                return
        yield member


def _is_at_work(member: Member, standing: Standing, busy: set[str]) -> bool:
    """Whether it trains on this machine, or is about to, whoever sees it through."""
    under_way = standing.state in ("PENDING", "PROVISIONING", "RUNNING")
    return _is_local(member) and (member.run_id in busy or under_way)


def _is_local(member: Member) -> bool:
    chosen = member.plan.chosen
    return chosen is not None and chosen.offer.provider == LOCAL


def _begun(portfolio: Portfolio, member: Member) -> Launcher:
    agreed = portfolio.origin.escalate == "yes"
    return launchers.start(member.run_id, agreed=agreed, folder=Path(portfolio.folder))


def _wait(busy: set[str], launched: Launched) -> None:
    """Until one of the launchers from here has ended, or it is time to look at the others."""
    ours = [launched[run_id] for run_id in busy if run_id in launched]
    ours = [launcher for launcher in ours if launcher.poll() is None]
    for _ in range(ROUNDS):
        time.sleep(LOOK_SECONDS)
        if any(launcher.poll() is not None for launcher in ours):
            break


def _line(found: Pairs, run_id: str) -> str:
    """What became of a member whose launcher has ended."""
    one = next(standing for member, standing in found if member.run_id == run_id)
    if one.phase == "skipped":
        return f"{run_id}: not begun: {one.said}"
    if one.phase == "waiting" or one.state is None:
        return f"{run_id}: could not be begun now; see {paths.climb_log(run_id)}"
    left = "" if one.phase == "over" else f"; not at its end, see {paths.climb_log(run_id)}"
    return f"{run_id}: {ended_as(one.state, one.reason)}, {dollars(one.spent_microusd)}{left}"


def settle(portfolio_id: str) -> None:
    """Once nothing is left of it, it has ended: nobody goes on with it."""
    book = ledger()
    portfolio = portfolios.find(book, portfolio_id)
    phases = {one.phase for one in standings(book, portfolio)}
    if phases <= {"over", "skipped"} and book.ended(portfolio.portfolio_id) is None:
        portfolios.end(book, portfolio.portfolio_id)
