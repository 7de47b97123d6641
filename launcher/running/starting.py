"""Starting an attempt that stands in the ledger: its task, its deadline, and what became of it."""

import os
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from jobs.spec import ResolvedSpec
from launcher import render
from launcher.catalog.providers import LOCAL
from launcher.errors import BadInput, LaunchError, NoCapacity, OutsideFailed, on_disk
from launcher.events import Event, MachineChanged, StateChanged
from launcher.executors import AUTODOWN_MINUTES, MANAGED, chosen_executor, executor
from launcher.executors.base import Executor, Order, Say
from launcher.executors.confinement import needs_network
from launcher.ledger import Ledger
from launcher.paths import is_remote
from launcher.planning.costs import deadline
from launcher.provenance import provenance
from launcher.running import history
from launcher.running.clock import Clock, at_its_price, clock_of, utc_now
from launcher.running.stops import stopped
from launcher.times import stamp
from launcher.tracking import SPACE, VARIABLES
from launcher.types import Attempt, Candidate, Plan, Run

# What a machine needs of this one's environment to write to a bucket, and to read from the Hub.
BUCKET_SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
NEEDED_SECRETS = BUCKET_SECRETS[:2]  # a launch refuses where one is not set
HUB_TOKEN = "HF_TOKEN"


def start(book: Ledger, made: Plan, run: Run, say: Say) -> None:
    """Start the run's latest attempt, which stands in the ledger as PROVISIONING."""
    last = run.attempts[-1]
    candidate, runner = at_its_price(made, last), executor(last.executor)
    assert candidate.spec is not None, "what can be started has a spec"
    due = clock_of(made, run)
    stop_at = due.stop_at - earlier_by(made, last.executor)
    whence = provenance(book.plan_document(made.run_id), candidate.offer.image)
    spec = msgspec.structs.replace(candidate.spec, deadline=stamp(stop_at), provenance=whence)
    rented = candidate.offer.provider != LOCAL
    order = Order(
        spec=spec,
        offer=candidate.offer,
        task=_task(book, made, msgspec.structs.replace(candidate, spec=spec), run)
        if rented
        else None,
        up_by=_up_by(candidate, due) if rented else None,
        require_wanted=partial(_require_wanted, book, run),
    )
    try:
        if run.bucket:
            history.keep(book, run)
        with on_disk(f"run {made.run_id} cannot be started"):
            runner.submit(last.handle, order, say)
    except BaseException as error:  # an interrupt too: the ledger must say what is
        why = stopped(book, made.run_id)
        book.append(made.run_id, stamp(utc_now()), *unstarted(runner, last, error, why))
        raise
    up: list[Event] = [MachineChanged(attempt=last.attempt, state="UP")]
    if not rented or _has_begun(runner, last.handle):
        up.append(StateChanged(attempt=last.attempt, state="RUNNING"))
    book.append(made.run_id, stamp(utc_now()), *up)


def _require_wanted(book: Ledger, run: Run) -> None:
    """To be asked by who holds the run's folder: whoever looks from now on sees it in hand, and who
    looked before may have written that nothing is there, or that it is stopped, and be waiting for
    this."""
    with book.alone():
        now, why = book.run(run.run_id), stopped(book, run.run_id)
    if now.ended or now.attempts[-1].machine == "GONE":
        raise BadInput(f"run {run.run_id} was ended while it was started: {now.message}")
    if why is not None:
        raise BadInput(f"run {run.run_id} is not started: {why}")


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


def _task(book: Ledger, made: Plan, candidate: Candidate, run: Run) -> str:
    """Its SkyPilot task, with what an earlier attempt left, unless the bucket has that."""
    last = run.attempts[-1]
    left = executor(last.executor).folder(last.handle)
    return _rendered(
        made,
        candidate,
        run.bucket,
        last.executor,
        left=None if run.bucket or last.attempt == 1 else left,
        followed_hours=_followed_hours(book, run),
    )


def printed_task(made: Plan, store: str) -> str:
    """The chosen offer's task as a launch at the plan's moment would hand it over. Raises BadInput
    where nothing is rented."""
    chosen = made.chosen
    assert chosen is not None, "asked only where something was chosen"
    assert chosen.spec is not None, "a chosen candidate has a spec"
    bucket = store if is_remote(store) else ""
    rented = chosen.offer.provider != LOCAL  # of this machine nothing is asked: it has no task
    name = chosen_executor(chosen, bool(bucket)) if rented else ""
    stop_at = deadline(chosen, made.budget, made.created_at) - earlier_by(made, name)
    spec = msgspec.structs.replace(chosen.spec, deadline=stop_at.isoformat(timespec="seconds"))
    return _rendered(made, msgspec.structs.replace(chosen, spec=spec), bucket, name)


def _rendered(
    made: Plan,
    candidate: Candidate,
    bucket: str,
    executor_name: str,
    left: Path | None = None,
    followed_hours: float = 0.0,
) -> str:
    assert candidate.spec is not None, "what can be started has a spec"
    return render.task(
        made,
        candidate,
        store=bucket,
        secrets=_secrets(candidate.spec, bucket),
        left=left,
        managed=executor_name == MANAGED,
        followed_hours=followed_hours,
    )


def _secrets(spec: ResolvedSpec, bucket: str) -> tuple[str, ...]:
    """The names of those that are set here and that this job's machine has a use for, and of those
    that no bucket does without (a printed task's may be set elsewhere). Data of the Hub is fetched
    here."""
    known: tuple[str, ...] = BUCKET_SECRETS if bucket else ()
    needed = NEEDED_SECRETS if bucket else ()
    if spec.track is not None:
        known += VARIABLES[spec.track]
    to_a_space = spec.track == "trackio" and os.environ.get(SPACE)
    if needs_network(spec) or to_a_space:
        known += (HUB_TOKEN,)
    return tuple(name for name in known if os.environ.get(name) or name in needed)


def _followed_hours(book: Ledger, run: Run) -> float:
    """Of the jobs that may take the run's machine after it, at their longest."""
    portfolio = book.portfolio(book.origin(run.run_id).portfolio)
    if portfolio is None:
        return 0.0
    waiting = (member.plan.chosen for member in book.waiting(portfolio))
    return sum(c.estimate.hours_high for c in waiting if c is not None and c.estimate is not None)


def _has_begun(runner: Executor, handle: str) -> bool:
    try:
        return runner.look(handle).started
    except OutsideFailed:  # the job is handed over; who follows will see
        return False


def unstarted(
    runner: Executor, attempt: Attempt, error: BaseException, unwanted: str | None = None
) -> tuple[Event, ...]:
    """What is so after a submit that was broken off; `unwanted` is why somebody has stopped it."""
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
    if unwanted is not None:
        failed = StateChanged(
            attempt=number, state="CANCELLED", reason="CANCELLED", message=unwanted
        )
    never = attempt.started_at if sight.never_there else None  # what never was costs nothing
    machine = MachineChanged(attempt=number, state="GONE", at=never, egress_microusd=0)
    if sight.billed:
        machine = MachineChanged(attempt=number, state="UNKNOWN")
    return (machine, failed)
