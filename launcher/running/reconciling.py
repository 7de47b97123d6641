"""The ledger brought up to what can be seen of runs: what ended is written down, what it left is
brought to this machine, and what it ran on is given back."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import PhaseRecord
from launcher import paths
from launcher.buckets import open_bucket
from launcher.catalog.providers import LOCAL
from launcher.errors import OutsideFailed
from launcher.events import Event, MachineChanged, StateChanged
from launcher.executors import executor
from launcher.executors.base import Executor, Sight
from launcher.ledger import Ledger
from launcher.planning.costs import terms
from launcher.running.clock import clock_of, utc_now
from launcher.running.endings import IN_LINE_SECONDS, ending
from launcher.times import stamp
from launcher.types import Attempt, Run
from results.records import read_result, records

# Between the ledger's entry and the lock that the job holds, a run looks dead to others.
SUBMIT_GRACE_SECONDS = 30.0

# For SkyPilot to see a job again that it does not see: its word for a machine whose runtime it
# cannot reach is INIT, as for one that is starting. Assumption.
OUT_OF_SIGHT_SECONDS = 600.0
# For another that is at work in the run's folder: one that only looks is soon done, one that
# collects may take this long, and who looks has no time for more. Who cannot go on without it waits
# until it has fetched all and taken the machine down: `sky down` alone takes 40 s on Slurm, and
# more at a load. Assumptions, for clouds.
A_MOMENT = 1.0
A_MINUTE = 60.0
IN_HAND_SECONDS = 900.0


def ledger() -> Ledger:
    return Ledger(paths.ledger_file())


def open_machines(run: Run) -> tuple[Attempt, ...]:
    """The attempts whose machines may still be billed."""
    return tuple(attempt for attempt in run.attempts if attempt.machine != "GONE")


# Asked when a job is over and home: whether another has taken its machine; then that stands in the
# ledger, and nothing is given back. With the run, its attempt, and what is to be said of its end.
HandOn = Callable[[Run, Attempt, tuple[Event, ...]], bool]


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
        book.append(run.run_id, stamp(utc_now()), _gone(runner, attempt, None))
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
    unseen = not (run.ended or sight.reached) and _had_the_job(book, run, number)
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


def _had_the_job(book: Ledger, run: Run, attempt: int) -> bool:
    """Whether the job was handed over, by the ledger: its machine is said to be up only then, and
    may have something of it, whatever a look finds there."""
    return any(
        isinstance(event, MachineChanged | StateChanged)
        and (event.attempt == attempt and event.state in ("UP", "RUNNING"))
        for _, event in book.events(run.run_id)
    )


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
    with _alone(runner, attempt):
        sight = Sight(alive=False, started=True, result=read_result(folder), billed=False)
        if run.bucket and not run.ended and not is_gone(book, run, attempt):
            sight = _from_bucket(run, folder, sight)
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


def finish(
    book: Ledger,
    run: Run,
    attempt: Attempt,
    sight: Sight,
    seconds: float = A_MINUTE,
    hand_on: HandOn | None = None,
    otherwise: StateChanged | None = None,
) -> None:
    """The job is over: bring what it left, give its machine back, say how it ended, by what it
    left; `otherwise` where it left nothing.

    Raises OutsideFailed, the machine kept, when something cannot be brought, or another is at it
    for longer than `seconds`: the next look tries again, and the guard ends the machine in time.
    So it is with one that had the job and where nothing is seen of it now. At the cap's end nothing
    keeps a machine.
    """
    runner, number = executor(attempt.executor), attempt.attempt
    if not sight.billed:
        with _alone(runner, attempt):
            if not is_gone(book, run, attempt):
                _written_down(book, run, attempt, sight, otherwise)
        return
    if not (sight.reached or sight.in_line) and _had_the_job(book, run, number):
        sight = msgspec.structs.replace(sight, reached=True)
    ends = MachineChanged(attempt=number, state="ENDING")
    book.append(run.run_id, stamp(utc_now()), ends)
    with runner.exclusive(attempt.handle, seconds):
        if is_gone(book, run, attempt):
            return  # someone was faster
        if sight.reached:
            _brought(runner, attempt, clock_of(book.plan(run.run_id), run).end_at)
        if hand_on is None or not hand_on(run, attempt, _home(book, run, attempt, sight)):
            released(book, run, attempt, sight, otherwise)


@contextlib.contextmanager
def _alone(runner: Executor, attempt: Attempt) -> Iterator[None]:
    """Nobody starts the job meanwhile, and nobody takes home what is being fetched: who would start
    it asks the ledger, with the folder held, whether it still should. Raises OutsideFailed where
    one is at it: the look is older than that, so it is not waited out."""
    runner.folder(attempt.handle).mkdir(parents=True, exist_ok=True)  # there to be held
    with runner.exclusive(attempt.handle, A_MOMENT):
        yield


def _written_down(
    book: Ledger, run: Run, attempt: Attempt, sight: Sight, otherwise: StateChanged | None
) -> None:
    """The end of an attempt that has no machine any more."""
    runner = executor(attempt.executor)
    sight = _what_is_here(run, attempt, runner.folder(attempt.handle), sight)
    gone = _gone(
        runner, attempt, _egress(book, run, attempt, sight), _went_at(book, run, attempt, sight)
    )
    over = ending(sight, attempt.attempt)
    if sight.result is None and otherwise is not None:
        over = otherwise
    book.append(run.run_id, stamp(utc_now()), gone, over)


def is_gone(book: Ledger, run: Run, attempt: Attempt) -> bool:
    """Whether the ledger says by now that its machine is."""
    return book.run(run.run_id).attempts[attempt.attempt - 1].machine == "GONE"


@contextlib.contextmanager
def unless_gone(book: Ledger, run: Run, attempt: Attempt) -> Iterator[None]:
    """Here OutsideFailed counts only while the ledger has the machine: else someone was faster."""
    try:
        yield
    except OutsideFailed:
        if not is_gone(book, run, attempt):
            raise


def _brought(runner: Executor, attempt: Attempt, until: datetime) -> None:
    """What the job left is here, as far as it can be got by the cap's end. Raises OutsideFailed."""
    try:
        runner.bring(attempt.handle, until)
    except OutsideFailed as error:
        if utc_now() < until:
            raise OutsideFailed(
                f"{error}\nthe machine is kept for what it has until {until:%H:%M} UTC at the "
                "latest; `sky down` with its name ends it now, without that"
            ) from None


def _home(book: Ledger, run: Run, attempt: Attempt, sight: Sight) -> tuple[Event, ...]:
    """The end of a job whose files are here and whose machine is not its own any more."""
    folder = executor(attempt.executor).folder(attempt.handle)
    sight = msgspec.structs.replace(sight, result=read_result(folder))
    sight = _what_is_here(run, attempt, folder, sight)
    left = _egress(book, run, attempt, sight)
    gone = MachineChanged(attempt=attempt.attempt, state="GONE", egress_microusd=left)
    return gone, ending(sight, attempt.attempt)


def released(
    book: Ledger, run: Run, attempt: Attempt, sight: Sight, otherwise: StateChanged | None = None
) -> None:
    """End the machine and write down how the job ended, by what it left here or in its bucket;
    `otherwise` where it left nothing. Raises OutsideFailed."""
    runner = executor(attempt.executor)
    runner.release(attempt.handle)
    result = read_result(runner.folder(attempt.handle))
    _written_down(book, run, attempt, msgspec.structs.replace(sight, result=result), otherwise)


def _what_is_here(run: Run, attempt: Attempt, folder: Path, sight: Sight) -> Sight:
    """The sight with the result of what has come to this machine, or can still come from the
    run's bucket. A result whose adapter is nowhere is none: the run can go on, not be collected."""
    if attempt.provider == LOCAL:
        return sight
    if run.bucket:
        sight = _from_bucket(run, folder, sight)
    result = sight.result
    if result is None or result.adapter is None or (folder / result.adapter).is_dir():
        return sight
    with contextlib.suppress(FileNotFoundError):
        (folder / layout.RESULT).rename(folder / layout.LOST_RESULT)
    return msgspec.structs.replace(sight, result=None)


def _from_bucket(run: Run, folder: Path, sight: Sight) -> Sight:
    """What the run's machine left in its bucket, as if this machine had seen it."""
    from results import stored_run
    from results.stores import StoreError

    try:
        stored_run.fetch(open_bucket(run.bucket), run.run_id, folder)
    except StoreError as error:
        raise OutsideFailed(f"run {run.run_id} cannot be fetched: {error}") from None
    return msgspec.structs.replace(sight, result=read_result(folder) or sight.result)


def _gone(
    runner: Executor, attempt: Attempt, egress: int | None, at: str | None = None
) -> MachineChanged:
    account = None
    with contextlib.suppress(OutsideFailed):  # a figure for the receipt, no more
        account = runner.account(attempt.handle)
    return MachineChanged(
        attempt=attempt.attempt,
        state="GONE",
        at=at,
        account_microusd=account,
        egress_microusd=egress,
    )


def _egress(book: Ledger, run: Run, attempt: Attempt, sight: Sight) -> int | None:
    """What leaving data cost, where that is less than at worst: nothing left a machine that never
    had the job, and no checkpoint one whose job finished."""
    if not sight.reached:
        return 0
    if sight.result is None or sight.result.failure is not None:
        return None
    made = book.plan(run.run_id)
    candidate = made.candidates[attempt.candidate]
    assert candidate.estimate is not None, "what was started has an estimate"
    return terms(
        candidate.offer, candidate.estimate, to_bucket=made.budget.to_bucket
    ).egress_microusd


def _went_at(book: Ledger, run: Run, attempt: Attempt, sight: Sight) -> str | None:
    """When the machine went, where nobody looked: SkyPilot dates that by its own noticing, and
    the machine's own side had ended it by the cap. One that never was cost nothing."""
    if sight.never_there:
        return attempt.started_at
    if sight.gone_at is None:
        return None
    latest = stamp(clock_of(book.plan(run.run_id), run).paid_until)
    return max(min(sight.gone_at, latest), attempt.started_at)
