"""Acting on runs: submit, cancel. The ledger is written before each act."""

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from launcher.catalog.providers import LOCAL
from launcher.errors import BadInput, NotHere, NothingFits
from launcher.events import BudgetSet, Event, RunCreated, StateChanged
from launcher.executors import chosen_executor, executor
from launcher.executors.base import Say
from launcher.executors.claims import wait
from launcher.executors.here import remembered
from launcher.ledger import Ledger
from launcher.paths import is_remote
from launcher.planning.refusals import why_nothing_fits
from launcher.running import history
from launcher.running.attempts import begin, entry, start_somewhere
from launcher.running.budgets import Project
from launcher.running.clock import utc_now
from launcher.running.finishing import IN_HAND_SECONDS, finish, is_gone, unless_gone
from launcher.running.next_offer import Place
from launcher.running.reconciling import ledger, reconcile
from launcher.running.starting import NEEDED_SECRETS
from launcher.running.stops import require_not_stopped, require_portfolio_goes_on
from launcher.times import stamp
from launcher.types import Candidate, Origin, Plan, Run
from results.collect import require_free_place
from results.records import is_at_work

DEFAULT_STORE = "runs"


def require_credentials_to_take(bucket: str, chosen: Candidate) -> None:
    """Raises BadInput where a rented machine could not write to the bucket."""
    missing = [name for name in NEEDED_SECRETS if not os.environ.get(name)]
    if bucket and chosen.offer.provider != LOCAL and missing:
        raise NotHere(
            f"--store {bucket}: the rented machine writes there with this environment's "
            f"credentials, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            "set\nset them to keys that may write to this bucket alone"
        )


class TakingOver(NamedTuple):
    """A run whose job is over and home, and what is to be said of its end."""

    run_id: str
    events: tuple[Event, ...]


def submit(
    made: Plan,
    store: str,
    say: Say,
    origin: Origin | None = None,
    project: Project | None = None,
    taking_over: TakingOver | None = None,
) -> str:
    """Start the plan's chosen candidate; the run stands in the ledger before anything starts.

    `origin` says whose next rung it is, if any; `taking_over` whose machine it takes: that one's
    end stands in the ledger with this one's start, or neither does. Returns the run id once the
    job has started; does not wait for it to do anything. Raises NothingFits (a budget that it draws
    on has been drawn on meanwhile, too), BadInput (no executor can act on the choice, or the store
    is no place for it)
    or OutsideFailed.
    """
    chosen = require_choice(made)
    bucket = store if is_remote(store) else ""
    executor(chosen_executor(chosen, bool(bucket))).require_ready()  # before anything is written
    require_credentials_to_take(bucket, chosen)
    book = ledger()
    home = _home(book, store, origin)
    require_place(home, made.run_id)
    if book.find(made.run_id) is not None:
        raise BadInput(f"run {made.run_id} exists already; `launch status {made.run_id}` shows it")
    if bucket:
        history.require_free(bucket, made.run_id)
    budget = msgspec.structs.replace(made.budget, to_bucket=bool(bucket))
    made = msgspec.structs.replace(made, budget=budget)
    origin, sets = _drawing(made, remembered(origin or Origin()), project)
    created = RunCreated(plan=made, store=str(home), bucket=bucket, origin=origin)
    attempt = entry(1, made, Place(0, chosen), bucket)
    with book.alone():
        require_portfolio_goes_on(book, origin.portfolio)
        if taking_over is not None:
            book.append(taking_over.run_id, stamp(utc_now()), *taking_over.events)
        if origin.climb:
            require_not_stopped(book, book.climb(origin.climb)[-1].run_id)
        book.append(made.run_id, stamp(utc_now()), created, *sets)
        begin(book, made, attempt)
    start_somewhere(book, made, [made.candidates.index(c) for c in made.fallbacks], say)
    return made.run_id


def home_of(folder: Path, store: str) -> Path:
    """Where the runs of a store come home to, launched in the folder: a bucket's to its ./runs."""
    return (folder / (DEFAULT_STORE if is_remote(store) else store)).absolute()


def require_place(home: Path, run_id: str) -> None:
    """Raises BadInput where nothing of that id could come home to the folder."""
    try:
        require_free_place(home, run_id)
    except OSError as error:
        raise BadInput(f"--store {home}: {error}") from None


def _home(book: Ledger, store: str, origin: Origin | None) -> Path:
    """The same for one that goes on with others, whatever folder it is begun in."""
    if origin is not None and origin.climb and is_remote(store):
        return Path(book.run(origin.climb).store)
    portfolio = book.portfolio(origin.portfolio) if origin is not None else None
    return home_of(Path(portfolio.folder if portfolio is not None else "."), store)


def _drawing(
    made: Plan, origin: Origin, project: Project | None
) -> tuple[Origin, tuple[BudgetSet, ...]]:
    """What the run is paid from: its climb's cap, or as the first of it its own, and its project's;
    and the caps that it sets."""
    names, sets = list(origin.budgets), []
    if not origin.climb and made.budget.max_cost_microusd is not None:
        names.append(made.run_id)
        sets.append(BudgetSet(name=made.run_id, cap_microusd=made.budget.max_cost_microusd))
    if project is not None:
        names.append(project.budget)
        if project.cap_microusd is not None:
            sets.append(BudgetSet(name=project.budget, cap_microusd=project.cap_microusd))
    return msgspec.structs.replace(origin, budgets=tuple(names)), tuple(sets)


def require_choice(made: Plan) -> Candidate:
    """The plan's chosen candidate. Raises NothingFits with the nearest ways out."""
    if made.chosen is None:
        raise NothingFits(
            "\n".join([f"nothing fits: {why_nothing_fits(made)}", *made.ways_out[:2]])
        )
    return made.chosen


def cancel(run_id: str) -> Run:
    """End the run's job, checkpoint and result first, and return the run when it is gone.

    A job that was faster keeps its own ending.
    """
    book = ledger()
    run = reconcile(book, book.run(run_id))
    if run.ended:
        raise BadInput(f"run {run_id} has ended already: {run.state}")
    last = run.attempts[-1]
    runner = executor(last.executor)
    runner.cancel(last.handle)
    # Who starts it gives it up now, who follows it takes it home: what is seen before is old then.
    wait(lambda: not is_at_work(runner.folder(last.handle)), IN_HAND_SECONDS)
    cancelled = StateChanged(
        attempt=last.attempt,
        state="CANCELLED",
        reason="CANCELLED",
        message="cancelled; the job left no result",
    )
    with unless_gone(book, run, last):
        if not is_gone(book, run, last):
            seen = runner.look(last.handle)
            finish(book, run, last, seen, IN_HAND_SECONDS, otherwise=cancelled)
    return book.run(run_id)
