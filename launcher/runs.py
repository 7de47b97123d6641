"""A run's life: submit, resume, look, follow, cancel. The ledger is written before each act."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import Record, Result
from launcher import paths
from launcher.errors import BadInput, LaunchError, NothingFits
from launcher.executors import executor
from launcher.executors.base import Say, Sight
from launcher.ledger import AttemptStarted, Ledger, MachineChanged, RunCreated, StateChanged
from launcher.types import Candidate, Plan, Reason, Run, RunState, View
from launcher.ways_out import ways_out
from results.receipt import spend_microusd
from results.records import Tail, records

POLL_SECONDS = 0.2
# Between the ledger's entry and the lock that the job holds, a run looks dead to others.
SUBMIT_GRACE_SECONDS = 30.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """How times are written: UTC, ISO 8601, milliseconds."""
    return at.isoformat(timespec="milliseconds")


def ledger() -> Ledger:
    return Ledger(paths.ledger_file())


# --- submit ---------------------------------------------------------------------------------


def submit(made: Plan, store: Path, say: Say) -> str:
    """Start the plan's chosen candidate; the run stands in the ledger before anything starts.

    Returns the run id once the job has started; does not wait for it to do anything. Raises
    NothingFits, BadInput (no executor can act on the choice) or OutsideFailed.
    """
    chosen = require_choice(made)
    runner = executor(chosen.offer.executor or "")  # before anything is written
    book = ledger()
    if book.find(made.run_id) is not None:
        raise BadInput(f"run {made.run_id} exists already; `launch status {made.run_id}` shows it")
    book.append(
        made.run_id,
        stamp(utc_now()),
        RunCreated(plan=made, store=str(store.absolute())),
        _attempt(made.run_id, 1, chosen, runner.handle(made.run_id)),
        StateChanged(state="PROVISIONING"),
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
        raise BadInput(f"run {run_id} has succeeded; results in {run.folder or 'its store'}")
    made = book.plan(run_id)
    chosen = require_choice(made)
    if deadline(made) <= utc_now():
        raise BadInput(
            f"the time or money of run {run_id} is used up ({stamp(deadline(made))}); "
            "start a new run from its recipe"
        )
    number = len(run.attempts) + 1
    runner = executor(chosen.offer.executor or "")
    book.append(
        run_id,
        stamp(utc_now()),
        _attempt(run_id, number, chosen, runner.handle(run_id)),
        StateChanged(state="PROVISIONING"),
    )
    _start(book, made, chosen, number, say)
    return run_id


def require_choice(made: Plan) -> Candidate:
    if made.chosen is None:
        ways = ways_out(made)
        raise NothingFits(
            "nothing fits: "
            + (made.candidates[0].reason if made.candidates else "no offer")
            + "".join(f"\n{way}" for way in ways[:2])
        )
    return made.chosen


def _attempt(run_id: str, number: int, chosen: Candidate, handle: str) -> AttemptStarted:
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
    try:
        executor(chosen.offer.executor or "").submit(spec, chosen.offer, say)
    except BaseException as error:  # an interrupt too: the ledger must not say it runs
        book.append(
            made.run_id,
            stamp(utc_now()),
            MachineChanged(attempt=number, state="GONE"),
            StateChanged(
                state="FAILED",
                reason="SETUP_FAILED",
                message=str(error) if isinstance(error, LaunchError) else repr(error),
            ),
        )
        raise
    book.append(
        made.run_id,
        stamp(utc_now()),
        MachineChanged(attempt=number, state="UP"),
        StateChanged(state="RUNNING"),
    )


def deadline(made: Plan) -> datetime:
    """When the job must have stopped: the hours allowed, or those that the cap can pay.

    Counted from the plan, at the chosen offer's rate; a later attempt does not move it.
    """
    chosen = require_choice(made)
    hours = made.budget.max_hours
    cap, rate = made.budget.max_cost_microusd, chosen.offer.microusd_per_hour
    if cap is not None and rate:
        hours = min(hours, cap / rate)
    return datetime.fromisoformat(made.created_at) + timedelta(hours=hours)


# --- watch ----------------------------------------------------------------------------------

_ENDINGS: dict[str, tuple[RunState, Reason]] = {
    "BAD_INPUT": ("FAILED", "BAD_INPUT"),
    "OUT_OF_MEMORY": ("FAILED", "OUT_OF_MEMORY"),
    "DEADLINE": ("FAILED", "BUDGET_EXCEEDED"),
    "CANCELLED": ("CANCELLED", "CANCELLED"),
    "ERROR": ("FAILED", "ERROR"),
}


def reconcile(book: Ledger, run: Run) -> Run:
    """Bring the ledger up to what can be seen of the run's job, and return the run anew."""
    if run.ended or not run.attempts:
        return run
    last = run.attempts[-1]
    sight = executor(last.executor).look(last.handle)
    if sight.alive:
        if (
            run.state == "PROVISIONING"
            and (executor(last.executor).folder(last.handle) / layout.PID).exists()
        ):
            book.append(run.run_id, stamp(utc_now()), StateChanged(state="RUNNING"))
        return book.run(run.run_id)
    age = utc_now() - datetime.fromisoformat(last.started_at)
    if (
        run.state == "PROVISIONING"
        and sight.result is None
        and age < timedelta(seconds=SUBMIT_GRACE_SECONDS)
    ):
        return run
    book.append(
        run.run_id,
        stamp(utc_now()),
        MachineChanged(attempt=last.attempt, state="GONE"),
        _ending(sight),
    )
    return book.run(run.run_id)


def _ending(sight: Sight) -> StateChanged:
    result = sight.result
    if result is None:
        return StateChanged(
            state="FAILED",
            reason="LOST",
            message="the job ended without leaving a result: it was killed (by hand, or by the "
            "system for want of memory), or this machine was restarted",
        )
    if result.failure is not None:
        state, reason = _ENDINGS[result.failure.reason]
        return StateChanged(state=state, reason=reason, message=result.failure.message)
    failed = [gate.metric for gate in result.gates if not gate.passed]
    if failed:
        return StateChanged(
            state="SUCCEEDED", reason="GATE_FAILED", message=f"gates failed: {', '.join(failed)}"
        )
    return StateChanged(state="SUCCEEDED")


def status(run_id: str) -> View:
    """The run, after a look at its job."""
    book = ledger()
    run = reconcile(book, book.run(run_id))
    folder = run_folder(run)
    seen = records(folder / layout.METRICS)
    return View(
        run=run,
        plan=book.plan(run_id),
        last=seen[-1] if seen else None,
        result=read_result(folder),
        log_tail=_log_tail(folder),
        spent_microusd=spent(run, utc_now()),
        folder=str(folder),
    )


def exists(run_id: str) -> bool:
    return ledger().find(run_id) is not None


def runs() -> list[Run]:
    """All runs, newest first, each after a look at its job."""
    book = ledger()
    return [reconcile(book, run) for run in book.runs()]


def run_folder(run: Run) -> Path:
    """Where the run's files are: its store once collected, else where its job works."""
    last = run.attempts[-1]
    work = executor(last.executor).folder(last.handle)
    home = Path(run.folder) if run.folder else None
    return home if home is not None and home.is_dir() and not work.is_dir() else work


def spent(run: Run, now: datetime) -> int:
    """Micro-dollars over all attempts, machines still up counted to `now`."""
    total = 0
    for attempt in run.attempts:
        end = datetime.fromisoformat(attempt.gone_at) if attempt.gone_at else now
        seconds = (end - datetime.fromisoformat(attempt.started_at)).total_seconds()
        total += spend_microusd(attempt.microusd_per_hour, max(0.0, seconds))
    return total


def follow(run_id: str) -> Iterator[Record | None]:
    """The job's records as they are written, None while there is nothing new, until it ends."""
    book = ledger()
    run = book.run(run_id)
    last = run.attempts[-1]
    runner = executor(last.executor)
    lines = Tail(runner.folder(last.handle) / layout.METRICS)
    decoder = msgspec.json.Decoder(Record)
    while True:
        alive = runner.look(last.handle).alive
        yield from map(decoder.decode, lines.new())
        if not alive:
            reconcile(book, book.run(run_id))
            return
        yield None
        time.sleep(POLL_SECONDS)


def logs(run_id: str, *, follow: bool) -> Iterator[bytes]:
    """The job's log, line by line; with `follow` until the job ends."""
    book = ledger()
    run = reconcile(book, book.run(run_id))
    lines = Tail(run_folder(run) / layout.LOG)
    while True:
        alive = follow and not reconcile(book, book.run(run_id)).ended
        yield from lines.new()
        if not alive:
            return
        time.sleep(POLL_SECONDS)


def read_result(folder: Path) -> Result | None:
    path = folder / layout.RESULT
    return msgspec.json.decode(path.read_bytes(), type=Result) if path.is_file() else None


def _log_tail(folder: Path, count: int = 12) -> str:
    return b"\n".join(Tail(folder / layout.LOG).new()[-count:]).decode(errors="replace")


def cancel(run_id: str) -> Run:
    """End the run's job, checkpoint and result first, and return the run when it is gone."""
    book = ledger()
    run = reconcile(book, book.run(run_id))
    if run.ended:
        raise BadInput(f"run {run_id} has ended already: {run.state}")
    last = run.attempts[-1]
    executor(last.executor).cancel(last.handle)
    book.append(
        run_id,
        stamp(utc_now()),
        MachineChanged(attempt=last.attempt, state="GONE"),
        StateChanged(state="CANCELLED", reason="CANCELLED", message="cancelled by the user"),
    )
    return book.run(run_id)
