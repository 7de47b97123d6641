"""Acting on runs: submit, resume, cancel. The ledger is written before each act."""

import os
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from jobs import layout
from launcher.catalog.providers import LOCAL
from launcher.errors import BadInput, NoCapacity, NotHere, NothingFits
from launcher.events import (
    AttemptStarted,
    BudgetSet,
    Decided,
    Event,
    PassedOver,
    RunCreated,
    StateChanged,
)
from launcher.executors import chosen_executor, executor
from launcher.executors.base import Say
from launcher.executors.claims import wait
from launcher.executors.here import ask_again, local_executor, remembered
from launcher.ledger import Ledger
from launcher.paths import is_remote
from launcher.planning.costs import terms
from launcher.planning.refusals import why_nothing_fits
from launcher.running import history, launchers
from launcher.running.budgets import Project, require_room
from launcher.running.clock import clock, rest, spent, utc_now
from launcher.running.finishing import IN_HAND_SECONDS, finish, is_gone, unless_gone
from launcher.running.next_offer import Place, Search, next_place
from launcher.running.reconciling import ledger, open_machines, reconcile
from launcher.running.saved import share_saved
from launcher.running.starting import NEEDED_SECRETS, start
from launcher.running.stops import known_stop, require_not_stopped, require_portfolio_goes_on
from launcher.times import stamp
from launcher.types import Candidate, Offer, Origin, Plan, Run
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
    attempt = _attempt(1, made, Place(0, chosen), bucket)
    with book.alone():
        require_portfolio_goes_on(book, origin.portfolio)
        if taking_over is not None:
            book.append(taking_over.run_id, stamp(utc_now()), *taking_over.events)
        if origin.climb:
            require_not_stopped(book, book.climb(origin.climb)[-1].run_id)
        book.append(made.run_id, stamp(utc_now()), created, *sets)
        _begin(book, made, origin, attempt)
    _start_somewhere(book, made, [made.candidates.index(c) for c in made.fallbacks], say)
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


def _begin(book: Ledger, made: Plan, origin: Origin, attempt: AttemptStarted) -> None:
    """Write down an attempt that is about to be started, if its budgets hold the run."""
    most = made.budget.max_cost_microusd
    require_room(book, made.run_id, origin.budgets, most, attempt)
    provisioning = StateChanged(attempt=attempt.attempt, state="PROVISIONING")
    book.append(made.run_id, stamp(utc_now()), attempt, provisioning)


def _start_somewhere(
    book: Ledger, made: Plan, order: list[int], say: Say, done: float = 0.0
) -> None:
    """Start the attempt that the ledger knows; where there is no capacity, go on down `order`.
    Raises BadInput where somebody has stopped the run, or its portfolio, meanwhile."""
    portfolio = book.origin(made.run_id).portfolio
    stood = book.ended(portfolio)  # it is started in spite of that
    while True:
        run = book.run(made.run_id)
        _say_how(book, made, run, say)
        try:
            start(book, made, run, say)
            return
        except NoCapacity as error:
            require_not_stopped(book, made.run_id)
            if order:
                say(f"{error}; going on with the plan")
            run = book.run(made.run_id)
            found = next_place(made, run, order, say, done)
            _write_down(book, run, found)
            if found.place is None:
                whys = "; ".join(one.why for one in found.passed_over.values())
                raise NoCapacity("\n".join(filter(None, (str(error), whys)))) from None
        attempt = _next_attempt(made, run, found.place)
        with book.alone():
            require_not_stopped(book, run.run_id)
            if book.ended(portfolio) != stood:
                require_portfolio_goes_on(book, portfolio)
            _go_on(book, made, attempt)


def _say_how(book: Ledger, made: Plan, run: Run, say: Say) -> None:
    """On this machine: in a container or not, and why; not again for each rung of a climb."""
    last = run.attempts[-1]
    before = [a for one in book.climb(run.run_id) if one.run_id != run.run_id for a in one.attempts]
    if any(attempt.executor == last.executor for attempt in before):
        return
    candidate = made.candidates[last.candidate]
    if candidate.offer.provider == LOCAL and candidate.spec is not None:
        say(local_executor(candidate.spec).why)


def _write_down(book: Ledger, run: Run, found: Search) -> None:
    """Why the run has not gone on elsewhere stands with why it could not stay."""
    passed = (PassedOver(candidate=i, message=one.why) for i, one in found.passed_over.items())
    book.append(run.run_id, stamp(utc_now()), *passed)


def _next_attempt(made: Plan, run: Run, place: Place) -> AttemptStarted:
    """The entry of the run's next attempt, at this place and its price. It may take long where the
    engines of containers are asked, so nobody is kept from the ledger meanwhile."""
    return _attempt(len(run.attempts) + 1, made, place, run.bucket)


def _go_on(book: Ledger, made: Plan, attempt: AttemptStarted) -> None:
    """Write down the run's next attempt before it is started."""
    _begin(book, made, book.origin(made.run_id), attempt)


class Resumption(NamedTuple):
    """A run that can go on, and where: looked at and priced, nothing started."""

    run: Run
    plan: Plan
    place: Place
    order: list[int]  # where to go on when there is no capacity
    done: float  # the share of the training that is kept
    stood: Decided | None = None  # what was decided to come of the run by then

    @property
    def left_microusd(self) -> int | None:
        """Of the cap."""
        return rest(self.plan.budget, spent(self.run, utc_now())).max_cost_microusd


def resumption(run_id: str, say: Say) -> Resumption:
    """How a run that ended early can be started once more, from its last complete checkpoint.

    Where it was, or where the same job can go on, at a price read now, under what the rest of its
    cap pays for. The deadline stays where the first attempt set it. Raises BadInput where there is
    nothing to go on with, NothingFits or NoCapacity where there is nowhere to.
    """
    book = ledger()
    run, stood = reconcile(book, book.run(run_id)), known_stop(book, run_id)
    ask_again(book.origin(run_id))
    if not run.ended or open_machines(run):
        raise BadInput(f"run {run_id} is {run.state}; `launch logs {run_id} -f` follows it")
    if run.state == "CANCELLED" and launchers.is_unasked():
        raise BadInput(f"run {run_id} was cancelled; `launch --run-id {run_id}` goes on with it")
    if run.state == "SUCCEEDED":
        raise BadInput(f"run {run_id} has succeeded; results in {run.folder or run.store}")
    made, last = book.plan(run_id), run.attempts[-1]
    require_credentials_to_take(run.bucket, made.candidates[last.candidate])
    folder = executor(last.executor).folder(last.handle)
    done = share_saved(run, folder)
    order = _where_to_go_on(made, run, begun=(folder / layout.METRICS).exists())
    found = next_place(made, run, order, say, done)
    if found.place is None:
        raise _nowhere(run_id, found)
    _require_time(made, run, found.place.candidate)
    return Resumption(run, made, found.place, order, done, stood)


def _where_to_go_on(made: Plan, run: Run, begun: bool) -> list[int]:
    """Of the plan's candidates, in turn: all, while the job has left nothing anywhere; then where
    it was, and those that do the very same job."""
    last = run.attempts[-1].candidate
    planned = [made.candidates.index(c) for c in (require_choice(made), *made.fallbacks)]
    if not (begun or run.bucket):
        return planned
    spec = made.candidates[last].spec
    return [last, *(i for i in planned if i != last and made.candidates[i].spec == spec)]


def _require_time(made: Plan, run: Run, candidate: Candidate) -> None:
    due = clock(made, candidate, spent(run, utc_now()), utc_now())
    if due.stop_at <= utc_now() + timedelta(hours=_before_the_job(candidate)):
        raise BadInput(
            f"the time or money of run {run.run_id} is used up ({stamp(due.stop_at)}); "
            "start a new run from its recipe"
        )


def _nowhere(run_id: str, found: Search) -> NothingFits | NoCapacity:
    whys = "; ".join(one.why for one in found.passed_over.values()) or "nothing else is planned"
    said = f"run {run_id} cannot go on, nothing was rented: {whys}"
    if any(one.kind is NothingFits for one in found.passed_over.values()):
        return NothingFits(f"{said}\nstart a new run from its recipe, with a higher --max-cost")
    return NoCapacity(f"{said}\ntry again later")


def resume(ready: Resumption, say: Say) -> str:
    """Start the run once more. Raises BadInput where somebody else has, or has stopped it,
    meanwhile."""
    book, run = ledger(), ready.run
    if book.run(run.run_id) != run:
        raise BadInput(f"run {run.run_id} has changed meanwhile; `launch status {run.run_id}`")
    last, attempt = run.attempts[-1], _next_attempt(ready.plan, run, ready.place)
    with book.alone():
        require_not_stopped(book, run.run_id, ready.stood)
        _go_on(book, ready.plan, attempt)
        # When the ledger speaks of a new attempt, no answer of the old one is left.
        executor(last.executor).clear(last.handle)
    _start_somewhere(book, ready.plan, list(ready.order), say, ready.done)
    return run.run_id


def _before_the_job(candidate: Candidate) -> float:
    """Expected hours from the request until the job begins: less left is paid for nothing."""
    assert candidate.estimate is not None, "what was started has an estimate"
    names = ("provision", "image pull", "set up")
    return sum(t.expected_hours for t in candidate.estimate.time if t.name in names)


def require_choice(made: Plan) -> Candidate:
    """The plan's chosen candidate. Raises NothingFits with the nearest ways out."""
    if made.chosen is None:
        raise NothingFits(
            "\n".join([f"nothing fits: {why_nothing_fits(made)}", *made.ways_out[:2]])
        )
    return made.chosen


def _attempt(number: int, made: Plan, place: Place, bucket: str) -> AttemptStarted:
    """The attempt's entry: at the place's price, all that its provider bills with it."""
    offer, estimate = place.candidate.offer, place.candidate.estimate
    assert estimate is not None, "what can be started has an estimate"
    name = chosen_executor(made.candidates[place.which], bool(bucket))
    billed = terms(offer, estimate, to_bucket=bool(bucket), finished=False)
    return AttemptStarted(
        attempt=number,
        executor=name,
        handle=_handle(name, made.run_id, number, offer),
        provider=offer.provider,
        instance=offer.instance,
        candidate=place.which,
        price_as_of=offer.as_of,
        **msgspec.structs.asdict(billed),
    )


def _handle(executor_name: str, run_id: str, number: int, offer: Offer) -> str:
    runner = executor(executor_name)
    if offer.held:
        return runner.handle_on(offer.held, run_id, number)
    return runner.handle(run_id, number)


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
