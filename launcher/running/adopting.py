"""`launch adopt`: the ledger rebuilt from the runs of a store, a folder or a bucket.

A run enters by its own history (events.jsonl), all or nothing. Of machines that this history leaves
open nobody here can say what became of them: they are UNKNOWN, until SkyPilot here is found to know
them or their own side has ended them (reconciling.py). Nothing in the store is changed.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from jobs import layout
from launcher import paths
from launcher.errors import BadInput, LaunchError, OutsideFailed, one_line
from launcher.events import Adopted, AttemptStarted, Collected, Event, MachineChanged, RunCreated
from launcher.executors import executor
from launcher.executors.base import Sight
from launcher.ledger import Ledger
from launcher.paths import is_remote
from launcher.running import history
from launcher.running.clock import spent, utc_now
from launcher.running.collecting import taken
from launcher.running.endings import ending
from launcher.running.reconciling import ledger, open_machines
from launcher.running.runs import DEFAULT_STORE
from launcher.times import stamp
from launcher.types import Run
from results.collect import verify
from results.receipt import dollars, ended_as
from results.records import read_result
from results.stored_run import StoredRun
from results.stores import Damaged, Store, Stored, StoreError, open_store


class Adoption(Struct, frozen=True, kw_only=True):
    """What became of one run of the store."""

    run_id: str
    outcome: Literal["adopted", "known", "refused"]
    said: str  # one line


def adopt(url: str) -> Iterator[Adoption]:
    """Take every run of the store into the ledger that it does not know; one of each, in order.

    `url` is a folder of runs or s3://bucket/prefix, or one run of either. A run that is damaged, or
    has no history, is refused and the others go on. Raises BadInput where there is no run at all,
    OutsideFailed where the store cannot be read.
    """
    try:
        store, run_ids = _runs(url)
    except StoreError as error:
        raise OutsideFailed(str(error)) from None
    if not run_ids:
        raise BadInput(
            f"there is no run in {url}: a folder with {layout.SPEC} for each is expected"
        )
    book = ledger()
    for run_id in run_ids:
        try:
            yield _adopted(book, store, run_id)
        except (LaunchError, StoreError, OSError, ValueError) as error:
            said = one_line(error)
            yield Adoption(run_id=run_id, outcome="refused", said=said)


def _runs(url: str) -> tuple[Store, list[str]]:
    """The store, and the runs in it; of an address that is one run's, the store around it."""
    url = url.rstrip("/") if is_remote(url) else str(Path(url).absolute())
    store = open_store(url)
    keys = store.sizes("")
    if layout.SPEC in keys:
        above, _, run_id = url.rpartition("/")
        return open_store(above), [run_id]
    marks = (layout.SPEC, layout.EVENTS)
    parts = (key.split("/") for key in keys)
    found = {p[0] for p in parts if len(p) == 2 and p[1] in marks and "." not in p[0]}
    return store, sorted(found)


def _adopted(book: Ledger, store: Store, run_id: str) -> Adoption:
    known = book.find(run_id)
    if known is not None:
        return Adoption(run_id=run_id, outcome="known", said="it is in this ledger already")
    stored = StoredRun(store, run_id)
    sums = stored.sums()
    events = list(_here(_history(stored), run_id, store))
    _require_whole(stored, sums)
    attempts = sum(isinstance(event, AttemptStarted) for _, event in events)
    events.append((stamp(utc_now()), Adopted(store=store.url, attempts=attempts)))
    local = None if is_remote(store.url) else Path(store.url) / run_id
    if local is not None and sums is not None:
        events.append((stamp(utc_now()), Collected(folder=str(local))))
    if local is not None and sums is None:
        _take_along(local, run_id)
    with book.alone():  # that its machine may cost money is known as soon as the run is
        book.extend(run_id, events)
        run = _with_unknown_machines(book, run_id)
        if local is not None and sums is not None:
            book.append(run_id, stamp(utc_now()), *_left(book, run, local))
    return Adoption(
        run_id=run_id, outcome="adopted", said=_said(book.run(run_id), sums is not None)
    )


def _left(book: Ledger, run: Run, folder: Path) -> Iterator[Event]:
    """What a whole run's files say: what it measured, and its end, if its history does not."""
    yield from taken(run, book.plan(run.run_id), folder)
    result = read_result(folder)
    if result is not None and not run.ended:
        sight = Sight(alive=False, started=True, result=result, billed=False)
        yield ending(sight, run.attempts[-1].attempt)


def _history(stored: StoredRun) -> list[tuple[str, Event]]:
    found = stored.store.read(stored.key(layout.EVENTS))
    if found is None:
        raise BadInput(f"it has no {layout.EVENTS}: no launcher, or an earlier version, wrote it")
    try:
        events = list(history.read(found[0]))
    except msgspec.DecodeError as error:
        raise BadInput(f"{layout.EVENTS} is damaged: {error}") from None
    first = events[0][1] if events else None
    if not isinstance(first, RunCreated) or first.plan.run_id != stored.run_id:
        raise BadInput(f"{layout.EVENTS} is not the history of {stored.run_id}")
    if not any(isinstance(event, AttemptStarted) for _, event in events):
        raise BadInput(f"{layout.EVENTS} knows of no attempt")
    return events


def _here(
    events: Iterable[tuple[str, Event]], run_id: str, store: Store
) -> Iterator[tuple[str, Event]]:
    """The events, with places as they are on this machine."""
    remote = is_remote(store.url)
    for at, event in events:
        if isinstance(event, RunCreated):
            home = str(Path(DEFAULT_STORE).absolute()) if remote else store.url
            bucket = store.url if remote else event.bucket
            # it is climbed on where it was launched, and paid from the budgets of there
            origin = msgspec.structs.replace(
                event.origin, escalate="no", budgets=(), executor="", python=""
            )
            event = msgspec.structs.replace(event, store=home, bucket=bucket, origin=origin)
        if isinstance(event, AttemptStarted):
            handle = executor(event.executor).handle(run_id, event.attempt)
            event = msgspec.structs.replace(event, handle=handle)
        yield at, event


def _require_whole(stored: StoredRun, sums: dict[str, str] | None) -> None:
    """Raises BadInput naming what differs from SHA256SUMS; of a partial run nothing can be said.

    In a bucket each object is held to the SHA-256 that it was put with, its content when it is
    fetched; what another tool has put there, without one, is read for it now.
    """
    if sums is None:
        return
    if not is_remote(stored.store.url):
        wrong = verify(Path(stored.store.url) / stored.run_id)
    else:
        found = {name: stored.store.find(stored.key(name)) for name in sums}
        wrong = [f"{name} is missing" for name, there in found.items() if there is None]
        wrong += [
            f"{name} has changed"
            for name, there in found.items()
            if there is not None and not _holds(stored, name, there, sums[name])
        ]
    if wrong:
        more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        raise BadInput(f"it is not what was collected: {'; '.join(wrong[:2])}{more}")


def _holds(stored: StoredRun, name: str, there: Stored, sha256: str) -> bool:
    """Whether an object in a bucket is what SHA256SUMS lists."""
    if there.sha256 is not None:
        return there.sha256 == sha256
    with tempfile.TemporaryDirectory() as aside:
        try:
            stored.store.get(stored.key(name), Path(aside) / "content", sha256)
        except Damaged:
            return False
    return True


def _take_along(folder: Path, run_id: str) -> None:
    """A partial run's files come to where this machine works on it."""
    work = paths.work_folder(run_id)
    if work.exists():
        raise BadInput(f"{work} is there already; move it away, then adopt the run again")
    aside = work.with_name(f".{run_id}{layout.TEMPORARY_SUFFIX}")
    shutil.rmtree(aside, ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise BadInput(f"{path} is a link, and what it leads to is no part of the run")
    own = shutil.ignore_patterns(layout.EVENTS, layout.WRITER, f"*{layout.TEMPORARY_SUFFIX}")
    shutil.copytree(folder, aside, ignore=own)
    aside.rename(work)


def _with_unknown_machines(book: Ledger, run_id: str) -> Run:
    unknown = [
        MachineChanged(attempt=attempt.attempt, state="UNKNOWN")
        for attempt in open_machines(book.run(run_id))
    ]
    book.append(run_id, stamp(utc_now()), *unknown)
    return book.run(run_id)


def _said(run: Run, complete: bool) -> str:
    line = f"{ended_as(run.state, run.reason)}, {dollars(spent(run, utc_now()))}"
    line += ", complete" if complete else ", partial"
    if open_machines(run):
        line += "; its machine is UNKNOWN: it may still be there and cost money"
    return f"{line}; files in {run.folder or run.bucket or run.store}"
