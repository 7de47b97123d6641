"""Looking at runs: status, follow, logs."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import PhaseRecord, Record, records_in
from launcher.catalog.providers import LOCAL
from launcher.errors import OutsideFailed
from launcher.executors import executor
from launcher.guard import enforce
from launcher.ledger import Ledger
from launcher.running.budgets import PROJECT
from launcher.running.clock import spent, utc_now
from launcher.running.finishing import HandOn
from launcher.running.reconciling import ledger, looked, open_machines, reconcile
from launcher.times import stamp
from launcher.types import Run, View
from results.receipt import Receipt
from results.records import Tail, read_result, records

# How long a follower goes on without being able to see its run. Assumption: a laptop's lid, a
# provider's bad quarter of an hour. The run and its cap do not depend on the follower.
UNSEEN_SECONDS = 900.0
LOG_TAIL_LINES = 12


def status(run_id: str) -> View:
    """The run, after a look at its job. Raises BadInput where the ledger has none of that id."""
    book = ledger()
    run, unseen = _reconciled(book, book.run(run_id))
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
        unseen=unseen,
    )


def _reconciled(book: Ledger, run: Run) -> tuple[Run, str]:
    """The run after a look, and why there could be none."""
    try:
        return reconcile(book, run), ""
    except OutsideFailed as error:
        return book.run(run.run_id), str(error)


def minutes_unfetched(run_id: str) -> int | None:
    """How long a rented machine holds the run's only results when its job has ended; None for a run
    on this machine, or with a bucket."""
    book = ledger()
    run = book.run(run_id)
    if run.bucket or run.attempts[-1].provider == LOCAL:
        return None
    return book.plan(run_id).budget.collect_minutes


def exists(run_id: str) -> bool:
    return ledger().find(run_id) is not None


def runs(project: str | None = None) -> list[Run]:
    """All runs, or a project's, newest first, each after a look at its job."""
    book = ledger()
    found = book.runs() if project is None else book.drawing_on(PROJECT + project)[::-1]
    # each as it is when its turn comes: looks take seconds
    return [_reconciled(book, book.run(run.run_id))[0] for run in found]


def run_folder(run: Run) -> Path:
    """Where the run's files are: its store once collected, else where its job works."""
    last = run.attempts[-1]
    work = executor(last.executor).folder(last.handle)
    home = Path(run.folder) if run.folder else None
    if home is None or not home.is_dir():
        return work
    return home if not work.is_dir() or (run.ended and _is_whole(home, run)) else work


def _is_whole(home: Path, run: Run) -> bool:
    """Whether no attempt was begun after the run was collected: what failed may go on, and its
    working folder stays for that."""
    try:
        account = msgspec.json.decode((home / layout.RECEIPT).read_bytes(), type=Receipt)
    except (OSError, msgspec.DecodeError):
        return False
    return account.attempts == len(run.attempts)


def follow(run_id: str, hand_on: HandOn | None = None) -> Iterator[Record | None]:
    """The job's records as they are written, None while there is nothing new, until it ends and
    its machine is given back.

    `hand_on` may give its machine to another job. What the limits no longer allow is ended on the
    way. A look that fails is tried again.
    """
    book = ledger()
    run = book.run(run_id)
    last = run.attempts[-1]
    runner = executor(last.executor)
    lines = Tail(runner.folder(last.handle) / layout.METRICS)
    doing, unseen_since = "", None
    while True:
        try:
            sight = looked(runner, book.run(run_id).attempts[-1])
            yield from records_in(lines.new())
            if sight.alive and sight.doing not in ("", doing):
                doing = sight.doing
                yield PhaseRecord(at=stamp(utc_now()), phase=doing)
            run = reconcile(book, book.run(run_id), sight, hand_on)
            if run.ended and not open_machines(run):
                return
            enforce(book, run)
            unseen_since = None
        except OutsideFailed:
            unseen_since = unseen_since or time.monotonic()
            with contextlib.suppress(OutsideFailed):  # the cap is held for what cannot be seen, too
                enforce(book, book.run(run_id))
            if time.monotonic() - unseen_since > UNSEEN_SECONDS:
                raise
        yield None
        time.sleep(runner.poll_seconds)


def logs(run_id: str, *, follow: bool) -> Iterator[bytes]:
    """The job's log, line by line; with `follow` until the job ends."""
    book = ledger()
    run, _ = _reconciled(book, book.run(run_id))
    lines = Tail(run_folder(run) / layout.LOG)
    runner = executor(run.attempts[-1].executor)
    while True:
        run, _ = _reconciled(book, book.run(run_id))
        lines.move(run_folder(run) / layout.LOG)  # home, when someone has collected it meanwhile
        yield from lines.new()
        if run.ended or not follow:
            return
        time.sleep(runner.poll_seconds)
