"""Going on with a run that ended early: whether it can, where, and its start."""

from datetime import timedelta
from typing import NamedTuple

from jobs import layout
from launcher.errors import BadInput, NoCapacity, NothingFits
from launcher.events import Decided
from launcher.executors import executor
from launcher.executors.base import Say
from launcher.executors.here import ask_again
from launcher.running import launchers
from launcher.running.attempts import begin, next_entry, start_somewhere
from launcher.running.clock import clock, rest, spent, utc_now
from launcher.running.next_offer import Place, Search, next_place
from launcher.running.reconciling import ledger, open_machines, reconcile
from launcher.running.runs import require_choice, require_credentials_to_take
from launcher.running.saved import share_saved
from launcher.running.stops import known_stop, require_not_stopped
from launcher.times import stamp
from launcher.types import Candidate, Plan, Run


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


def _before_the_job(candidate: Candidate) -> float:
    """Expected hours from the request until the job begins: less left is paid for nothing."""
    assert candidate.estimate is not None, "what was started has an estimate"
    names = ("provision", "image pull", "set up")
    return sum(t.expected_hours for t in candidate.estimate.time if t.name in names)


def resume(ready: Resumption, say: Say) -> str:
    """Start the run once more. Raises BadInput where somebody else has, or has stopped it,
    meanwhile."""
    book, run = ledger(), ready.run
    if book.run(run.run_id) != run:
        raise BadInput(f"run {run.run_id} has changed meanwhile; `launch status {run.run_id}`")
    last, attempt = run.attempts[-1], next_entry(ready.plan, run, ready.place)
    with book.alone():
        require_not_stopped(book, run.run_id, ready.stood)
        begin(book, ready.plan, attempt)
        # When the ledger speaks of a new attempt, no answer of the old one is left.
        executor(last.executor).clear(last.handle)
    start_somewhere(book, ready.plan, list(ready.order), say, ready.done)
    return run.run_id
