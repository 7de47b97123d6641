"""The ledger brought up to what can be seen of runs; what has ended is finished (finishing.py)."""

import contextlib
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import PhaseRecord
from launcher import paths
from launcher.catalog.providers import LOCAL
from launcher.errors import OutsideFailed
from launcher.events import MachineChanged, StateChanged
from launcher.executors import executor
from launcher.executors.base import Executor, Sight
from launcher.ledger import Ledger
from launcher.running.clock import clock_of, utc_now
from launcher.running.endings import IN_LINE_SECONDS, ending
from launcher.running.finishing import (
    HandOn,
    alone,
    finish,
    from_bucket,
    had_the_job,
    is_gone,
    machine_gone,
    unless_gone,
)
from launcher.times import stamp
from launcher.types import Attempt, Run
from results.records import read_result, records

# Between the ledger's entry and the lock that the job holds, a run looks dead to others.
SUBMIT_GRACE_SECONDS = 30.0

# For SkyPilot to see a job again that it does not see: its word for a machine whose runtime it
# cannot reach is INIT, as for one that is starting. Assumption.
OUT_OF_SIGHT_SECONDS = 600.0


def ledger() -> Ledger:
    return Ledger(paths.ledger_file())


def open_machines(run: Run) -> tuple[Attempt, ...]:
    """The attempts whose machines may still be billed."""
    return tuple(attempt for attempt in run.attempts if attempt.machine != "GONE")


def reconcile(
    book: Ledger, run: Run, seen: Sight | None = None, hand_on: HandOn | None = None
) -> Run:
    """Look at what is still open of a run, finish what has ended, and return the run anew.

    `seen` is a look at the latest attempt that was just taken: its machine waits to be fetched
    from, so it is not looked at again. Raises OutsideFailed where something cannot be seen, brought
    or ended; what is certain is in the ledger by then.
    """
    for attempt in open_machines(run):
        latest = attempt.attempt == len(run.attempts)
        with unless_gone(book, run, attempt):
            _reconcile(book, run, attempt, latest, seen if latest else None, hand_on)
    return book.run(run.run_id)


def _reconcile(
    book: Ledger,
    run: Run,
    attempt: Attempt,
    latest: bool,
    seen: Sight | None,
    hand_on: HandOn | None,
) -> None:
    runner, number = executor(attempt.executor), attempt.attempt
    if not latest:  # another took its place: its machine has no business being there
        runner.release(attempt.handle)
        book.append(run.run_id, stamp(utc_now()), machine_gone(runner, attempt, None))
        return
    afar = attempt.machine == "UNKNOWN" and number <= book.adopted(run.run_id)
    sight = seen if seen is not None else _looked(runner, attempt, afar)
    # SkyPilot forgets no machine that it had: one that was seen is another SkyPilot's.
    elsewhere = sight.never_there and attempt.machine in ("UP", "ENDING")
    if elsewhere or (afar and not sight.alive and (sight.never_there or attempt.provider == LOCAL)):
        _from_afar(book, run, attempt)
        return
    mark = _unseen_mark(runner, attempt)
    if sight.started:
        mark.unlink(missing_ok=True)
    unseen = not (run.ended or sight.reached) and had_the_job(book, run, number)
    if unseen and _unseen_for(mark) < OUT_OF_SIGHT_SECONDS:
        raise OutsideFailed(
            f"SkyPilot does not see the job of {run.run_id} now; its machine is kept, and "
            f"asked for what it has where that lasts {OUT_OF_SIGHT_SECONDS / 60:.0f} min"
        )
    if sight.alive:
        news: list[MachineChanged | StateChanged] = []
        if run.state == "PROVISIONING" and sight.started:
            news.append(StateChanged(attempt=number, state="RUNNING"))
        if attempt.machine in ("REQUESTED", "UNKNOWN") and (sight.started or sight.in_line):
            news.append(MachineChanged(attempt=number, state="UP"))
        if news:
            book.append(run.run_id, stamp(utc_now()), *news)
        elif sight.in_line and _up_for(book, run, number) > IN_LINE_SECONDS:
            finish(book, run, attempt, msgspec.structs.replace(sight, alive=False, reached=False))
        return
    age = utc_now() - datetime.fromisoformat(attempt.started_at)
    young = age < timedelta(seconds=SUBMIT_GRACE_SECONDS)
    if run.state == "PROVISIONING" and sight.result is None and young:
        return
    finish(book, run, attempt, sight, hand_on=hand_on)


def _up_for(book: Ledger, run: Run, attempt: int) -> float:
    """Seconds since the ledger has said that the attempt's machine is up; 0 where it does not."""
    up = (
        utc_now() - datetime.fromisoformat(at)
        for at, event in reversed(book.events(run.run_id))
        if isinstance(event, MachineChanged) and (event.attempt, event.state) == (attempt, "UP")
    )
    return next(up, timedelta()).total_seconds()


def _unseen_mark(runner: Executor, attempt: Attempt) -> Path:
    """As old as the first of the looks that have not seen the job. Who looks is many processes."""
    return runner.folder(attempt.handle) / f"unseen-{attempt.attempt}"


def _unseen_for(mark: Path) -> float:
    """Seconds since the mark was made; it is made here where there is none."""
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
        return utc_now().timestamp() - mark.stat().st_mtime
    except OSError:  # no place for it, or gone between the two: the next look counts
        return 0.0


def looked(runner: Executor, attempt: Attempt) -> Sight:
    """A look. A machine that was being ended may be half gone, its SkyPilot already removed, where
    an API server ended meanwhile: its job was over then. Raises OutsideFailed."""
    try:
        return runner.look(attempt.handle)
    except OutsideFailed:
        if attempt.machine != "ENDING":
            raise
        result = read_result(runner.folder(attempt.handle))
        return Sight(alive=False, started=True, result=result, billed=True)


def _looked(runner: Executor, attempt: Attempt, afar: bool) -> Sight:
    """A look; where there is no SkyPilot to see another machine's run, nothing was seen."""
    try:
        return looked(runner, attempt)
    except OutsideFailed:
        if not afar:
            raise
        return Sight(alive=False, started=False, result=None, billed=False, never_there=True)


def _from_afar(book: Ledger, run: Run, attempt: Attempt) -> None:
    """What can be known of a run whose machine nobody here can see, adopted or another SkyPilot's:
    what it left in its bucket, and that its own side ends it by the cap's end.

    Raises OutsideFailed, what is certain written, while the machine may still be there.
    """
    number, runner = attempt.attempt, executor(attempt.executor)
    folder = runner.folder(attempt.handle)
    with alone(runner, attempt):
        sight = Sight(alive=False, started=True, result=read_result(folder), billed=False)
        if run.bucket and not run.ended and not is_gone(book, run, attempt):
            sight = from_bucket(run, folder, sight)
    if sight.result is not None:
        book.append(run.run_id, stamp(utc_now()), ending(sight, number))
    gone_by = _gone_by(book, run, folder, sight)
    if utc_now() < gone_by:
        raise OutsideFailed(
            f"the machine of {run.run_id} cannot be seen from here: it may be there, and cost "
            f"money, until {gone_by:%Y-%m-%d %H:%M:%S} UTC\nlook where the run was launched"
        )
    gone = MachineChanged(attempt=number, state="GONE", at=stamp(gone_by))
    book.append(run.run_id, stamp(utc_now()), gone, ending(sight, number))


def _gone_by(book: Ledger, run: Run, folder: Path, sight: Sight) -> datetime:
    """When the machine's own side has ended it at the latest: what is reserved for that after the
    job's end, where that is known, else the cap's end."""
    due = clock_of(book.plan(run.run_id), run)
    said = [r.at for r in records(folder / layout.METRICS) if isinstance(r, PhaseRecord)]
    if sight.result is None or not said:
        return due.paid_until
    over = datetime.fromisoformat(said[-1])
    return min(due.paid_until, over + (due.paid_until - due.stop_at))
