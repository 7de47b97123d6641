"""One machine for several jobs of a portfolio: when a job is over and home, the next one takes its
machine where that is cheaper than one of its own (decisions/0015).

At any moment one run of the ledger has the machine: the end of the one and the start of the other
are one transaction. So what holds a run's cap holds it here, unchanged.
"""

from collections.abc import Callable

import msgspec

from launcher import plans
from launcher.errors import LaunchError, one_line
from launcher.events import Event, StateChanged
from launcher.planning.costs import disk_gib
from launcher.portfolios import budget_of, is_agreed, origin_of
from launcher.running import climbs, portfolios
from launcher.running.clock import at_its_price, utc_now
from launcher.running.finishing import HandOn
from launcher.running.reconciling import ledger
from launcher.running.runs import TakingOver, require_choice, submit
from launcher.types import Attempt, Candidate, Member, Plan, Portfolio, Run

Say = Callable[[str], None]


def hand_on(run_id: str, say: Say) -> HandOn | None:
    """For who sees the run through: how its machine is given to the next member of its portfolio,
    while somebody begins its members, who follows that one too; None where it is no member's."""
    book = ledger()
    portfolio = book.portfolio(book.origin(run_id).portfolio)
    if portfolio is None:
        return None

    def give(run: Run, attempt: Attempt, events: tuple[Event, ...]) -> bool:
        if not climbs.is_seen_through(portfolio.portfolio_id):
            return False
        try:
            return _given(portfolio, run, attempt, events, say)
        except LaunchError as error:
            say(f"the machine of {run.run_id} is not handed on: {one_line(error)}")
            return book.run(run.run_id).attempts[attempt.attempt - 1].machine == "GONE"

    return give


def _given(
    portfolio: Portfolio, run: Run, attempt: Attempt, events: tuple[Event, ...], say: Say
) -> bool:
    member = _next(portfolio) if _is_free(run, attempt, events) else None
    if member is None:
        return False
    made = _on_it(portfolio, member, run, attempt)
    if made is None or not is_agreed(portfolio, require_choice(made)):
        return False
    say(f"{member.run_id} takes the machine of {run.run_id}")
    over = TakingOver(run.run_id, events)
    submit(made, portfolio.store, say, origin_of(portfolio, made), taking_over=over)
    return True


def _is_free(run: Run, attempt: Attempt, events: tuple[Event, ...]) -> bool:
    """Whether the run leaves a machine in good order, which nothing of its own climb wants."""
    ends = [event for event in events if isinstance(event, StateChanged)]
    well = [event for event in ends if event.state == "SUCCEEDED"]
    climbs = ledger().origin(run.run_id).escalate != "no" and any(e.reason for e in well)
    return attempt.executor == "skypilot" and bool(well) and not climbs


def _next(portfolio: Portfolio) -> Member | None:
    """The first member that waits."""
    book = ledger()
    if book.ended(portfolio.portfolio_id) is not None:
        return None
    return next(iter(book.waiting(portfolio)), None)


def _on_it(portfolio: Portfolio, member: Member, run: Run, attempt: Attempt) -> Plan | None:
    """The member planned on the machine, what else holds it after that; None where the machine does
    not do, or one of its own is cheaper."""
    book, now = ledger(), utc_now()
    most = portfolios.may_take(book, portfolio, member, after=run)
    budget = budget_of(member, most)
    own = at_its_price(book.plan(run.run_id), attempt)
    there = msgspec.structs.replace(own.offer, held=attempt.handle)
    made = plans.plan_again(member.plan, budget, member.run_id, among=[there], now=now)
    chosen = made.chosen
    if chosen is None or not _is_like(own, chosen):
        return None
    fresh = plans.plan_again(member.plan, budget, member.run_id, now=now)
    if fresh.chosen is not None and fresh.chosen.expected_microusd < chosen.expected_microusd:
        return None
    reason = f"on the machine of {run.run_id}, which is up; {chosen.reason}"
    others = (
        msgspec.structs.replace(c, verdict="possible") if c.verdict == "chosen" else c
        for c in fresh.candidates
    )
    first = msgspec.structs.replace(chosen, reason=reason)
    return msgspec.structs.replace(made, candidates=(first, *others))


def _is_like(own: Candidate, wanted: Candidate) -> bool:
    """Whether the machine was rented as the job would rent it: disk and image are its own."""
    assert own.estimate is not None, "what was started has an estimate"
    assert wanted.estimate is not None, "what is chosen has an estimate"
    same_image = own.offer.image == wanted.offer.image
    return disk_gib(own.estimate) == disk_gib(wanted.estimate) and same_image
