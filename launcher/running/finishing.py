"""An attempt's end: what its job left is brought to this machine, what it ran on is given back,
and how it ended is written down."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from jobs import layout
from launcher.buckets import open_bucket
from launcher.catalog.providers import LOCAL
from launcher.errors import OutsideFailed
from launcher.events import Event, MachineChanged, StateChanged
from launcher.executors import executor
from launcher.executors.base import Executor, Sight
from launcher.ledger import Ledger
from launcher.planning.costs import terms
from launcher.running.clock import clock_of, utc_now
from launcher.running.endings import ending
from launcher.times import stamp
from launcher.types import Attempt, Run
from results.records import read_result

# For another that is at work in the run's folder: one that only looks is soon done, one that
# collects may take this long, and who looks has no time for more. Who cannot go on without it waits
# until it has fetched all and taken the machine down: `sky down` alone takes 40 s on Slurm, and
# more at a load. Assumptions, for clouds.
A_MOMENT = 1.0
A_MINUTE = 60.0
IN_HAND_SECONDS = 900.0


# Asked when a job is over and home: whether another has taken its machine; then that stands in the
# ledger, and nothing is given back. With the run, its attempt, and what is to be said of its end.
HandOn = Callable[[Run, Attempt, tuple[Event, ...]], bool]


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
        with alone(runner, attempt):
            if not is_gone(book, run, attempt):
                _written_down(book, run, attempt, sight, otherwise)
        return
    if not (sight.reached or sight.in_line) and had_the_job(book, run, number):
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
def alone(runner: Executor, attempt: Attempt) -> Iterator[None]:
    """Nobody starts the job meanwhile, and nobody takes home what is being fetched: who would start
    it asks the ledger, with the folder held, whether it still should. Raises OutsideFailed where
    one is at it: the look is older than that, so it is not waited out."""
    runner.folder(attempt.handle).mkdir(parents=True, exist_ok=True)  # there to be held
    with runner.exclusive(attempt.handle, A_MOMENT):
        yield


def had_the_job(book: Ledger, run: Run, attempt: int) -> bool:
    """Whether the job was handed over, by the ledger: its machine is said to be up only then, and
    may have something of it, whatever a look finds there."""
    return any(
        isinstance(event, MachineChanged | StateChanged)
        and (event.attempt == attempt and event.state in ("UP", "RUNNING"))
        for _, event in book.events(run.run_id)
    )


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


def _written_down(
    book: Ledger, run: Run, attempt: Attempt, sight: Sight, otherwise: StateChanged | None
) -> None:
    """The end of an attempt that has no machine any more."""
    runner = executor(attempt.executor)
    sight = _what_is_here(run, attempt, runner.folder(attempt.handle), sight)
    gone = machine_gone(
        runner, attempt, _egress(book, run, attempt, sight), _went_at(book, run, attempt, sight)
    )
    over = ending(sight, attempt.attempt)
    if sight.result is None and otherwise is not None:
        over = otherwise
    book.append(run.run_id, stamp(utc_now()), gone, over)


def _what_is_here(run: Run, attempt: Attempt, folder: Path, sight: Sight) -> Sight:
    """The sight with the result of what has come to this machine, or can still come from the
    run's bucket. A result whose adapter is nowhere is none: the run can go on, not be collected."""
    if attempt.provider == LOCAL:
        return sight
    if run.bucket:
        sight = from_bucket(run, folder, sight)
    result = sight.result
    if result is None or result.adapter is None or (folder / result.adapter).is_dir():
        return sight
    with contextlib.suppress(FileNotFoundError):
        (folder / layout.RESULT).rename(folder / layout.LOST_RESULT)
    return msgspec.structs.replace(sight, result=None)


def from_bucket(run: Run, folder: Path, sight: Sight) -> Sight:
    """What the run's machine left in its bucket, as if this machine had seen it."""
    from results import stored_run
    from results.stores import StoreError

    try:
        stored_run.fetch(open_bucket(run.bucket), run.run_id, folder)
    except StoreError as error:
        raise OutsideFailed(f"run {run.run_id} cannot be fetched: {error}") from None
    return msgspec.structs.replace(sight, result=read_result(folder) or sight.result)


def machine_gone(
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
