"""Where a later attempt may go: down the plan, each offer looked at and priced anew, and held
against what is left of the cap."""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from launcher.checking.fresh_price import Askings
from launcher.checking.rentable import Refused, named, rentable
from launcher.executors import EXECUTORS
from launcher.executors.base import Say
from launcher.planning.refusals import usd
from launcher.running.clock import rest, spent, utc_now
from launcher.running.saved import remaining
from launcher.types import Candidate, Plan, Run


class Place(NamedTuple):
    """Where an attempt may be started, at the price of now."""

    which: int  # of the plan's candidates
    candidate: Candidate


class Search(NamedTuple):
    """What was found, and those before it that were not taken, by their index."""

    place: Place | None
    passed_over: dict[int, Refused]


def next_place(made: Plan, run: Run, order: list[int], say: Say, done: float = 0.0) -> Search:
    """The first of `order` that is there and whose worst case the rest of the cap holds; what was
    looked at is taken off the list, and what is passed over said in a line.

    `done` is the share of the training that need not be paid for again.
    """
    spent_by_now = spent(run, utc_now())
    budget = rest(made.budget, spent_by_now)
    askings = Askings(datetime.now(UTC).date().isoformat())
    passed_over: dict[int, Refused] = {}
    while order:
        index = order.pop(0)
        candidate = made.candidates[index]
        if not _may_be_started(candidate, run):
            continue
        if not candidate.worst_microusd:
            return Search(Place(index, candidate), passed_over)
        assert candidate.estimate is not None, "what has a price has an estimate"
        still = msgspec.structs.replace(candidate, estimate=remaining(candidate.estimate, done))
        found = rentable(still, budget, askings.about(candidate.offer.provider))
        if isinstance(found, Candidate):
            return Search(Place(index, found), passed_over)
        line = f"{named(candidate.offer)} is passed over: {found.why}"
        if spent_by_now and made.budget.max_cost_microusd is not None:
            line += f" ({usd(spent_by_now)} of {usd(made.budget.max_cost_microusd)} are spent)"
        passed_over[index] = found._replace(why=line)
        say(line)
    return Search(None, passed_over)


def _may_be_started(candidate: Candidate, run: Run) -> bool:
    """On spot only where something keeps what the job has done when it is taken back."""
    offer = candidate.offer
    keeps = bool(run.bucket) or not offer.spot
    # a machine that was taken over is gone when a later attempt asks
    return offer.executor in EXECUTORS and keeps and not offer.held
