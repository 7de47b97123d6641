"""What a budget has left. A climb's own is its cap; a project's is one cap over days.

A run is paid from every budget that it draws on. While a machine of it may bill it takes all that
it may cost, its own cap, which deadline, watchdog and guard hold; afterwards what it did cost. Both
are looked up and taken in one transaction, so that no dollar is taken twice.
"""

import re
from typing import NamedTuple

from launcher.errors import BadInput, NothingFits
from launcher.events import AttemptStarted
from launcher.ledger import Ledger
from launcher.planning.refusals import usd
from launcher.running.clock import spent, utc_now
from launcher.types import MICROUSD, MOST_USD, Account, Run, lowest

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
PROJECT = "project/"  # before its name: no run's id has a slash


def taken(book: Ledger, run: Run) -> int:
    """Micro-dollars that nobody else can have."""
    cost = spent(run, utc_now())
    under_way = not run.ended or any(a.machine != "GONE" for a in run.attempts)
    if under_way and any(a.microusd_per_hour or a.egress_microusd for a in run.attempts):
        return max(cost, book.plan(run.run_id).budget.max_cost_microusd or 0)
    return cost


def left(book: Ledger, budget: str, besides: str = "") -> int | None:
    """Of the budget's cap, without what the run `besides` takes; None where it has no cap."""
    cap = book.caps().get(budget)
    if cap is None:
        return None
    return cap - _taken_of(book, budget, besides)


def _taken_of(book: Ledger, budget: str, besides: str = "") -> int:
    return sum(taken(book, run) for run in book.drawing_on(budget) if run.run_id != besides)


def least_left(book: Ledger, budgets: tuple[str, ...], besides: str = "") -> int | None:
    """Of the scarcest of them, never below 0; None where none has a cap."""
    found = lowest(*(left(book, budget, besides) for budget in budgets))
    return None if found is None else max(0, found)


def require_room(
    book: Ledger, run_id: str, budgets: tuple[str, ...], most: int | None, attempt: AttemptStarted
) -> None:
    """To be asked in the transaction that writes the attempt. Raises NothingFits where a budget
    does not hold `most`, all that the run may cost, and the attempt costs something."""
    if not (attempt.microusd_per_hour or attempt.egress_microusd):
        return
    for budget in budgets:
        rest = left(book, budget, besides=run_id)
        if rest is not None and rest < (most or 0):
            raise NothingFits(
                f"{named(budget)} has {usd(max(0, rest))} left, and run {run_id} may take "
                f"{usd(most or 0)}: other runs draw on it\nplan again, or give it a smaller "
                "--max-cost"
            )


def named(budget: str) -> str:
    if budget.startswith(PROJECT):
        return f"the budget of project {budget.removeprefix(PROJECT)}"
    return f"the budget of {budget}"


class Project(NamedTuple):
    """A project as `--project NAME[:USD]` names it."""

    name: str
    cap_microusd: int | None  # to be set; None: it has one

    @property
    def budget(self) -> str:
        return PROJECT + self.name


def project(text: str) -> Project:
    """Raises BadInput for what is no NAME[:USD], and for a new project without a cap."""
    name, colon, dollars = text.partition(":")
    if not re.fullmatch(NAME, name):
        raise BadInput(
            f"--project {text}: expected NAME or NAME:USD; a name has letters, digits, - _"
        )
    try:
        cap = round(float(dollars) * MICROUSD) if colon else None
    except (ValueError, OverflowError):
        raise BadInput(f"--project {text}: the cap is a number of dollars") from None
    if cap is not None and not 0 <= cap <= MOST_USD * MICROUSD:
        raise BadInput(f"--project {text}: the cap is a number of dollars from 0 to {MOST_USD:,}")
    return Project(name, cap)


def project_left(book: Ledger, asked: Project) -> int:
    """Micro-dollars, never below 0. Raises BadInput for a project without a cap."""
    return max(0, _cap(book, asked) - _taken_of(book, asked.budget))


def _cap(book: Ledger, asked: Project) -> int:
    cap = book.caps().get(asked.budget) if asked.cap_microusd is None else asked.cap_microusd
    if cap is None:
        raise BadInput(
            f"project {asked.name} has no budget yet; --project {asked.name}:USD gives it one, "
            "over all its runs"
        )
    return cap


def account(book: Ledger, name: str) -> Account:
    """What a project has spent, holds and has left. Raises BadInput for one without a budget."""
    asked = Project(name, None)
    cap = _cap(book, asked)
    now, held = utc_now(), _taken_of(book, asked.budget)
    cost = sum(spent(run, now) for run in book.drawing_on(asked.budget))
    return Account(
        project=name,
        cap_microusd=cap,
        spent_microusd=cost,
        held_microusd=held - cost,
        left_microusd=max(0, cap - held),
    )
