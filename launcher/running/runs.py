"""Acting on runs: submit, resume, cancel. The ledger is written before each act."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from launcher import render
from launcher.catalog.providers import LOCAL
from launcher.errors import BadInput, LaunchError, NoCapacity, NothingFits, OutsideFailed
from launcher.executors import AUTODOWN_MINUTES, EXECUTORS, MANAGED, chosen_executor, executor
from launcher.executors.base import Executor, Order, Say
from launcher.ledger import (
    AttemptStarted,
    Event,
    Ledger,
    MachineChanged,
    RunCreated,
    StateChanged,
)
from launcher.planning.costs import hourly_microusd
from launcher.running import history
from launcher.running.clock import Clock, clock, clock_of, rest, spent, utc_now
from launcher.running.reconciling import finish, ledger, open_machines, reconcile, stamp
from launcher.types import Attempt, Candidate, Plan, Run
from results.collect import require_free_place

DEFAULT_STORE = "runs"
# What a machine needs of this one's environment to write to a bucket, and to read from the Hub.
BUCKET_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
HUB_TOKEN = "HF_TOKEN"


def is_remote(store: str) -> bool:
    return "://" in store


def require_credentials_to_take(bucket: str, chosen: Candidate) -> None:
    """Raises BadInput where a rented machine could not write to the bucket."""
    missing = [name for name in BUCKET_SECRETS[:2] if not os.environ.get(name)]
    if bucket and chosen.offer.provider != LOCAL and missing:
        raise BadInput(
            f"--store {bucket}: the rented machine writes there with this environment's "
            f"credentials, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            "set\nset them to keys that may write to this bucket alone"
        )


def submit(made: Plan, store: str, say: Say) -> str:
    """Start the plan's chosen candidate; the run stands in the ledger before anything starts.

    Returns the run id once the job has started; does not wait for it to do anything. Raises
    NothingFits, BadInput (no executor can act on the choice, or the store is no place for it) or
    OutsideFailed.
    """
    chosen = require_choice(made)
    bucket = store if is_remote(store) else ""
    executor(_executor_of(chosen, bucket)).require_ready()  # before anything is written
    require_credentials_to_take(bucket, chosen)
    home = Path(DEFAULT_STORE if bucket else store).absolute()
    try:
        require_free_place(home, made.run_id)
    except OSError as error:
        raise BadInput(f"--store {home}: {error}") from None
    book = ledger()
    if book.find(made.run_id) is not None:
        raise BadInput(f"run {made.run_id} exists already; `launch status {made.run_id}` shows it")
    book.append(
        made.run_id,
        stamp(utc_now()),
        RunCreated(plan=made, store=str(home), bucket=bucket),
        _attempt(1, made, 0, bucket),
        StateChanged(attempt=1, state="PROVISIONING"),
    )
    _start_somewhere(book, made, say)
    return made.run_id


def _start_somewhere(book: Ledger, made: Plan, say: Say) -> None:
    """Start the attempt that the ledger knows; where there is no capacity, go on down the plan."""
    fallbacks = [made.candidates.index(c) for c in made.fallbacks]
    while True:
        run = book.run(made.run_id)
        try:
            _start(book, made, run, say)
            return
        except NoCapacity as error:
            index = _next(made, fallbacks, run)
            if index is None:
                raise
            say(f"{error}; going on with the plan")
        _go_on(book, made, run, index)


def _go_on(book: Ledger, made: Plan, run: Run, index: int) -> None:
    """Write down the run's next attempt, on this candidate, before it is started."""
    number = len(run.attempts) + 1
    book.append(
        run.run_id,
        stamp(utc_now()),
        _attempt(number, made, index, run.bucket),
        StateChanged(attempt=number, state="PROVISIONING"),
    )


def _next(made: Plan, fallbacks: list[int], run: Run) -> int | None:
    """The next that the rest of the cap pays for at its worst; taken off the list."""
    left = rest(made.budget, spent(run, utc_now())).max_cost_microusd
    while fallbacks:
        index = fallbacks.pop(0)
        candidate = made.candidates[index]
        affordable = left is None or candidate.worst_microusd <= left
        keeps = run.bucket or not candidate.offer.spot  # what it has done when it is taken back
        if candidate.offer.executor in EXECUTORS and affordable and keeps:
            return index
    return None


def resume(run_id: str, say: Say) -> str:
    """Start a run that ended early once more, from its last complete checkpoint.

    The deadline stays where the first attempt set it. Raises BadInput where there is nothing to
    go on with.
    """
    book = ledger()
    run = reconcile(book, book.run(run_id))
    if not run.ended or open_machines(run):
        raise BadInput(f"run {run_id} is {run.state}; `launch logs {run_id} -f` follows it")
    if run.state == "SUCCEEDED":
        raise BadInput(f"run {run_id} has succeeded; results in {run.folder or run.store}")
    made = book.plan(run_id)
    last = run.attempts[-1]
    candidate = made.candidates[last.candidate]
    require_credentials_to_take(run.bucket, candidate)
    due = clock(made, candidate, spent(run, utc_now()), utc_now())
    if due.stop_at <= utc_now() + timedelta(hours=_before_the_job(candidate)):
        raise BadInput(
            f"the time or money of run {run_id} is used up ({stamp(due.stop_at)}); "
            "start a new run from its recipe"
        )
    # Before the ledger speaks of a new attempt, nothing of the old is left.
    executor(last.executor).clear(last.handle)
    _go_on(book, made, run, last.candidate)
    _start_somewhere(book, made, say)
    return run_id


def _before_the_job(candidate: Candidate) -> float:
    """Expected hours from the request until the job begins: less left is paid for nothing."""
    assert candidate.estimate is not None, "what was started has an estimate"
    names = ("provision", "image pull", "set up")
    return sum(t.expected_hours for t in candidate.estimate.time if t.name in names)


def require_choice(made: Plan) -> Candidate:
    """The plan's chosen candidate. Raises NothingFits with the nearest ways out."""
    if made.chosen is None:
        reason = made.candidates[0].reason if made.candidates else "no offer is left"
        raise NothingFits("\n".join([f"nothing fits: {reason}", *made.ways_out[:2]]))
    return made.chosen


def _executor_of(candidate: Candidate, bucket: str) -> str:
    assert candidate.estimate is not None, "what can be started has an estimate"
    return chosen_executor(candidate.offer, candidate.estimate.hours_expected, bool(bucket))


def _attempt(number: int, made: Plan, index: int, bucket: str) -> AttemptStarted:
    candidate = made.candidates[index]
    offer, estimate = candidate.offer, candidate.estimate
    assert estimate is not None, "what can be started has an estimate"
    name = _executor_of(candidate, bucket)
    return AttemptStarted(
        attempt=number,
        executor=name,
        handle=executor(name).handle(made.run_id, number),
        provider=offer.provider,
        instance=offer.instance,
        microusd_per_hour=hourly_microusd(offer, estimate),
        candidate=index,
    )


def _start(book: Ledger, made: Plan, run: Run, say: Say) -> None:
    """Start the run's latest attempt, which stands in the ledger as PROVISIONING."""
    last = run.attempts[-1]
    candidate, runner = made.candidates[last.candidate], executor(last.executor)
    assert candidate.spec is not None, "what can be started has a spec"
    due = clock_of(made, run)
    stop_at = due.stop_at - earlier_by(made, last.executor)
    spec = msgspec.structs.replace(candidate.spec, deadline=stamp(stop_at))
    rented = candidate.offer.provider != LOCAL
    order = Order(
        spec=spec,
        offer=candidate.offer,
        task=_task(made, msgspec.structs.replace(candidate, spec=spec), run) if rented else None,
        up_by=_up_by(candidate, due) if rented else None,
    )
    try:
        if run.bucket:
            history.keep(book, run)
        runner.submit(last.handle, order, say)
    except BaseException as error:  # an interrupt too: the ledger must say what is
        book.append(made.run_id, stamp(utc_now()), *_unstarted(runner, last, error))
        raise
    up: list[Event] = [MachineChanged(attempt=last.attempt, state="UP")]
    if not rented or _has_begun(runner, last.handle):
        up.append(StateChanged(attempt=last.attempt, state="RUNNING"))
    book.append(made.run_id, stamp(utc_now()), *up)


def earlier_by(made: Plan, executor_name: str) -> timedelta:
    """How much earlier than others a managed job must stop: where nobody takes its machine down,
    that stands idle for longer than the plan counts."""
    if executor_name != MANAGED:
        return timedelta()
    return timedelta(minutes=max(0, AUTODOWN_MINUTES - made.budget.collect_minutes))


def _up_by(candidate: Candidate, due: Clock) -> datetime:
    """When a machine is given up that does not come: the worst case counts no longer than this."""
    assert candidate.estimate is not None, "what can be started has an estimate"
    waiting = ("provision", "image pull")
    hours = sum(t.high_hours for t in candidate.estimate.time if t.name in waiting)
    return min(due.stop_at, utc_now() + timedelta(hours=hours))


def _task(made: Plan, candidate: Candidate, run: Run) -> str:
    """Its SkyPilot task, with what an earlier attempt left, unless the bucket has that."""
    last = run.attempts[-1]
    left = executor(last.executor).folder(last.handle)
    known = (*BUCKET_SECRETS, HUB_TOKEN) if run.bucket else (HUB_TOKEN,)
    secrets = tuple(name for name in known if os.environ.get(name))
    return render.task(
        made,
        candidate,
        store=run.bucket,
        secrets=secrets,
        left=None if run.bucket or last.attempt == 1 else left,
        managed=last.executor == MANAGED,
    )


def _has_begun(runner: Executor, handle: str) -> bool:
    try:
        return runner.look(handle).started
    except OutsideFailed:  # the job is handed over; who follows will see
        return False


def _unstarted(runner: Executor, attempt: Attempt, error: BaseException) -> tuple[Event, ...]:
    """What is so after a submit that was broken off."""
    number = attempt.attempt
    try:
        sight = runner.look(attempt.handle)
    except OutsideFailed:  # nobody can say: the next look will
        return (MachineChanged(attempt=number, state="UNKNOWN"),)
    if sight.alive:  # it came after the job was started
        up = MachineChanged(attempt=number, state="UP")
        running = StateChanged(attempt=number, state="RUNNING")
        return (up, running) if sight.started else ()
    message = str(error) if isinstance(error, LaunchError) else repr(error)
    failed = StateChanged(
        attempt=number,
        state="FAILED",
        reason="NO_CAPACITY" if isinstance(error, NoCapacity) else "SETUP_FAILED",
        message=message,
    )
    machine = MachineChanged(attempt=number, state="UNKNOWN" if sight.billed else "GONE")
    return (machine, failed)


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
    seen = runner.look(last.handle)
    if seen.result is None:
        cancelled = StateChanged(
            attempt=last.attempt,
            state="CANCELLED",
            reason="CANCELLED",
            message="cancelled; the job left no result",
        )
        book.append(run_id, stamp(utc_now()), cancelled)
    finish(book, run, last, seen)
    return book.run(run_id)
