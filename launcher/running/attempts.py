"""An attempt of a run: its entry in the ledger, and its start, down the plan's order."""

import msgspec

from launcher.catalog.providers import LOCAL
from launcher.errors import NoCapacity
from launcher.events import AttemptStarted, PassedOver, StateChanged
from launcher.executors import chosen_executor, executor
from launcher.executors.base import Say
from launcher.executors.here import local_executor
from launcher.ledger import Ledger
from launcher.planning.costs import terms
from launcher.running.budgets import require_room
from launcher.running.clock import utc_now
from launcher.running.next_offer import Place, Search, next_place
from launcher.running.starting import start
from launcher.running.stops import require_not_stopped, require_portfolio_goes_on
from launcher.times import stamp
from launcher.types import Offer, Plan, Run


def start_somewhere(
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
        attempt = next_entry(made, run, found.place)
        with book.alone():
            require_not_stopped(book, run.run_id)
            if book.ended(portfolio) != stood:
                require_portfolio_goes_on(book, portfolio)
            begin(book, made, attempt)


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


def begin(book: Ledger, made: Plan, attempt: AttemptStarted) -> None:
    """Write down an attempt of a run that the ledger knows, before it is started, if the budgets
    that it draws on hold it. Raises NothingFits."""
    budgets, most = book.origin(made.run_id).budgets, made.budget.max_cost_microusd
    require_room(book, made.run_id, budgets, most, attempt)
    provisioning = StateChanged(attempt=attempt.attempt, state="PROVISIONING")
    book.append(made.run_id, stamp(utc_now()), attempt, provisioning)


def next_entry(made: Plan, run: Run, place: Place) -> AttemptStarted:
    """The entry of the run's next attempt, at this place and its price. It may take long where the
    engines of containers are asked, so nobody is kept from the ledger meanwhile."""
    return entry(len(run.attempts) + 1, made, place, run.bucket)


def entry(number: int, made: Plan, place: Place, bucket: str) -> AttemptStarted:
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
