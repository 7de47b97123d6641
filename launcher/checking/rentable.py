"""Whether an offer of the plan can be taken at this moment, and at which price."""

from os import environ
from typing import NamedTuple

from launcher.catalog.providers import LOCAL, display_name
from launcher.checking.fitness import fitness
from launcher.checking.fresh_price import Asking, fresh_price, still_holds
from launcher.errors import BadInput, LaunchError, NothingFits, OutsideFailed, one_line
from launcher.executors import environment
from launcher.types import Budget, Candidate, Offer


class Refused(NamedTuple):
    """An offer that is passed over: why, in one line, and as which error where no other is left."""

    why: str
    kind: type[LaunchError]
    of_the_provider: bool = False  # so of all that it offers
    of_all_rented: bool = False  # and of all that others offer


def rentable(candidate: Candidate, budget: Budget, asking: Asking) -> Candidate | Refused:
    """The candidate at the price of now, or why it is passed over: the job cannot run there, the
    offer is gone or its price unknown, or the budget does not hold its worst case."""
    own_python = environment.PYTHON_VARIABLE in environ
    unfit = [check for check in fitness(candidate, own_python) if check.state == "failed"]
    if unfit:
        return Refused(unfit[0].line, OutsideFailed if unfit[0].outside else BadInput)
    now = candidate.offer  # this machine: its owner says what it costs
    if now.provider != LOCAL:
        try:
            now = fresh_price(candidate, asking)
        except OutsideFailed as error:
            return Refused(one_line(error), OutsideFailed)
    held = still_holds(candidate, now, budget, asking.today)
    return Refused(held, NothingFits) if isinstance(held, str) else held


def named(offer: Offer) -> str:
    return f"{display_name(offer.provider)} {offer.instance}"
