"""Looking at runs: reconcile the ledger with what can be seen, status, follow, logs, spend."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import Record
from launcher import paths
from launcher.executors import executor
from launcher.executors.base import Sight
from launcher.ledger import Ledger, MachineChanged, StateChanged
from launcher.types import Reason, Run, RunState, View
from results.receipt import spend_microusd
from results.records import Tail, read_result, records

POLL_SECONDS = 0.2
# Between the ledger's entry and the lock that the job holds, a run looks dead to others.
SUBMIT_GRACE_SECONDS = 30.0
LOG_TAIL_LINES = 12


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp(at: datetime) -> str:
    """How times are written: UTC, ISO 8601, milliseconds."""
    return at.isoformat(timespec="milliseconds")


def ledger() -> Ledger:
    return Ledger(paths.ledger_file())


_ENDINGS: dict[str, tuple[RunState, Reason]] = {
    "BAD_INPUT": ("FAILED", "BAD_INPUT"),
    "OUT_OF_MEMORY": ("FAILED", "OUT_OF_MEMORY"),
    "DEADLINE": ("FAILED", "BUDGET_EXCEEDED"),
    "CANCELLED": ("CANCELLED", "CANCELLED"),
    "PILOT_FAILED": ("FAILED", "PILOT_FAILED"),
    "PREEMPTED": ("FAILED", "PREEMPTED"),
    "STALLED": ("FAILED", "STALLED"),
    "ERROR": ("FAILED", "ERROR"),
}


def reconcile(book: Ledger, run: Run) -> Run:
    """Bring the ledger up to what can be seen of the run's job, and return the run anew."""
    if run.ended or not run.attempts:
        return run
    last = run.attempts[-1]
    sight = executor(last.executor).look(last.handle)
    if sight.alive:
        if run.state == "PROVISIONING" and sight.started:
            running = StateChanged(attempt=last.attempt, state="RUNNING")
            book.append(run.run_id, stamp(utc_now()), running)
        return book.run(run.run_id)
    age = utc_now() - datetime.fromisoformat(last.started_at)
    young = age < timedelta(seconds=SUBMIT_GRACE_SECONDS)
    if run.state == "PROVISIONING" and sight.result is None and young:
        return run
    book.append(
        run.run_id,
        stamp(utc_now()),
        MachineChanged(attempt=last.attempt, state="GONE"),
        ending(sight, last.attempt),
    )
    return book.run(run.run_id)


def ending(sight: Sight, attempt: int) -> StateChanged:
    """What became of a job that is no longer alive, read from what it left."""
    result = sight.result
    if result is None:
        return StateChanged(
            attempt=attempt,
            state="FAILED",
            reason="LOST",
            message="the job ended without leaving a result: it was killed (by hand, or by the "
            "system for want of memory), or this machine was restarted",
        )
    if result.failure is not None:
        state, reason = _ENDINGS[result.failure.reason]
        message = result.failure.message
        return StateChanged(attempt=attempt, state=state, reason=reason, message=message)
    failed = [gate.metric for gate in result.gates if not gate.passed]
    if failed:
        message = f"gates failed: {', '.join(failed)}"
        return StateChanged(
            attempt=attempt, state="SUCCEEDED", reason="GATE_FAILED", message=message
        )
    return StateChanged(attempt=attempt, state="SUCCEEDED")


def status(run_id: str) -> View:
    """The run, after a look at its job. Raises BadInput where the ledger has none of that id."""
    book = ledger()
    run = reconcile(book, book.run(run_id))
    folder = run_folder(run)
    seen = records(folder / layout.METRICS)
    log = Tail(folder / layout.LOG).new()[-LOG_TAIL_LINES:]
    return View(
        run=run,
        plan=book.plan(run_id),
        last=seen[-1] if seen else None,
        result=read_result(folder),
        log_tail=b"\n".join(log).decode(errors="replace"),
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
    return sum(spend_microusd(a.microusd_per_hour, a.seconds(now)) for a in run.attempts)


def follow(run_id: str) -> Iterator[Record | None]:
    """The job's records as they are written, None while there is nothing new, until it ends."""
    book = ledger()
    run = book.run(run_id)
    last = run.attempts[-1]
    runner = executor(last.executor)
    lines = Tail(runner.folder(last.handle) / layout.METRICS)
    decode = msgspec.json.Decoder(Record).decode
    while True:
        alive = runner.look(last.handle).alive
        yield from map(decode, lines.new())
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
        run = reconcile(book, book.run(run_id))
        lines.move(run_folder(run) / layout.LOG)  # home, when someone has collected it meanwhile
        yield from lines.new()
        if run.ended or not follow:
            return
        time.sleep(POLL_SECONDS)
