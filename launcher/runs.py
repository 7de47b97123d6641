"""Acting on runs: submit, resume, cancel. The ledger is written before each act."""

from datetime import datetime
from pathlib import Path

import msgspec

from launcher import costs
from launcher.errors import BadInput, LaunchError, NothingFits
from launcher.executors import executor
from launcher.executors.base import Say
from launcher.ledger import AttemptStarted, Ledger, MachineChanged, RunCreated, StateChanged
from launcher.types import Candidate, Plan, Run
from launcher.watching import ending, ledger, reconcile, stamp, utc_now
from results.collect import require_free_place


def submit(made: Plan, store: Path, say: Say) -> str:
    """Start the plan's chosen candidate; the run stands in the ledger before anything starts.

    Returns the run id once the job has started; does not wait for it to do anything. Raises
    NothingFits, BadInput (no executor can act on the choice, or the store is no place for it) or
    OutsideFailed.
    """
    chosen = require_choice(made)
    runner = executor(chosen.offer.executor or "")  # before anything is written
    store = store.absolute()
    try:
        require_free_place(store, made.run_id)
    except OSError as error:
        raise BadInput(f"--store {store}: {error}") from None
    book = ledger()
    if book.find(made.run_id) is not None:
        raise BadInput(f"run {made.run_id} exists already; `launch status {made.run_id}` shows it")
    book.append(
        made.run_id,
        stamp(utc_now()),
        RunCreated(plan=made, store=str(store)),
        _attempt(1, chosen, runner.handle(made.run_id)),
        StateChanged(attempt=1, state="PROVISIONING"),
    )
    _start(book, made, chosen, 1, say)
    return made.run_id


def resume(run_id: str, say: Say) -> str:
    """Start a run that ended early once more, from its last complete checkpoint.

    The deadline stays where the first attempt set it. Raises BadInput where there is nothing to
    go on with.
    """
    book = ledger()
    run = reconcile(book, book.run(run_id))
    if not run.ended:
        raise BadInput(f"run {run_id} is {run.state}; `launch logs {run_id} -f` follows it")
    if run.state == "SUCCEEDED":
        raise BadInput(f"run {run_id} has succeeded; results in {run.folder or run.store}")
    made = book.plan(run_id)
    chosen = require_choice(made)
    if deadline(made) <= utc_now():
        raise BadInput(
            f"the time or money of run {run_id} is used up ({stamp(deadline(made))}); "
            "start a new run from its recipe"
        )
    number = len(run.attempts) + 1
    runner = executor(chosen.offer.executor or "")
    handle = runner.handle(run_id)
    runner.clear(handle)  # before the ledger speaks of a new attempt, nothing of the old is left
    book.append(
        run_id,
        stamp(utc_now()),
        _attempt(number, chosen, handle),
        StateChanged(attempt=number, state="PROVISIONING"),
    )
    _start(book, made, chosen, number, say)
    return run_id


def require_choice(made: Plan) -> Candidate:
    """The plan's chosen candidate. Raises NothingFits with the nearest ways out."""
    if made.chosen is None:
        reason = made.candidates[0].reason if made.candidates else "no offer is left"
        raise NothingFits("\n".join([f"nothing fits: {reason}", *made.ways_out[:2]]))
    return made.chosen


def _attempt(number: int, chosen: Candidate, handle: str) -> AttemptStarted:
    return AttemptStarted(
        attempt=number,
        executor=chosen.offer.executor or "",
        handle=handle,
        provider=chosen.offer.provider,
        instance=chosen.offer.instance,
        microusd_per_hour=chosen.offer.microusd_per_hour,
    )


def _start(book: Ledger, made: Plan, chosen: Candidate, number: int, say: Say) -> None:
    assert chosen.spec is not None, "a chosen candidate has a spec"
    spec = msgspec.structs.replace(chosen.spec, deadline=stamp(deadline(made)))
    runner = executor(chosen.offer.executor or "")
    up = (
        MachineChanged(attempt=number, state="UP"),
        StateChanged(attempt=number, state="RUNNING"),
    )
    try:
        runner.submit(spec, chosen.offer, say)
    except BaseException as error:  # an interrupt too: the ledger must say what is
        if runner.look(runner.handle(made.run_id)).alive:
            book.append(made.run_id, stamp(utc_now()), *up)  # it came after the job was started
            raise
        message = str(error) if isinstance(error, LaunchError) else repr(error)
        book.append(
            made.run_id,
            stamp(utc_now()),
            MachineChanged(attempt=number, state="GONE"),
            StateChanged(attempt=number, state="FAILED", reason="SETUP_FAILED", message=message),
        )
        raise
    book.append(made.run_id, stamp(utc_now()), *up)


def deadline(made: Plan) -> datetime:
    """When the job must have stopped on the plan's choice, see `costs.deadline`."""
    return costs.deadline(require_choice(made), made.budget, made.created_at)


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
    how = ending(seen, last.attempt)
    if seen.result is None:
        how = StateChanged(
            attempt=last.attempt,
            state="CANCELLED",
            reason="CANCELLED",
            message="cancelled; the job left no result",
        )
    gone = MachineChanged(attempt=last.attempt, state="GONE")
    book.append(run_id, stamp(utc_now()), gone, how)
    return book.run(run_id)
