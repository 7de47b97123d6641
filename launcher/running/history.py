"""A run's own history beside its files, for a ledger elsewhere: what `launch adopt` reads.

`events.jsonl` holds the ledger's events of the run, a line each. It is in every collected run, and
in a run's bucket from each attempt's request for a machine on.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from jobs import layout
from launcher.buckets import open_bucket
from launcher.errors import BadInput, OutsideFailed
from launcher.events import Adopted, BudgetSet, Collected, Event, Measured
from launcher.executors import executor
from launcher.ledger import Ledger
from launcher.types import Run

# What each ledger says for itself: where it has the files, what it took from them, and its budgets.
_OWN = (Collected, Measured, Adopted, BudgetSet)


class Entry(Struct, frozen=True):
    at: str  # UTC, ISO 8601
    event: Event


def document(book: Ledger, run_id: str) -> bytes:
    """The run's events.jsonl."""
    entries = [Entry(at, event) for at, event in book.events(run_id)]
    return b"".join(
        msgspec.json.encode(entry) + b"\n" for entry in entries if not isinstance(entry.event, _OWN)
    )


def read(content: bytes) -> Sequence[tuple[str, Event]]:
    """Raises msgspec.DecodeError for what `document` did not write."""
    decode = msgspec.json.Decoder(Entry).decode
    return [(entry.at, entry.event) for entry in map(decode, content.splitlines())]


def keep(book: Ledger, run: Run) -> None:
    """Bring the history to the run's bucket. Raises OutsideFailed."""
    from results.stored_run import StoredRun, finished
    from results.stores import StoreError

    try:
        stored = StoredRun(open_bucket(run.bucket), run.run_id)
        if stored.sums() is not None:  # it lists this file as well
            raise finished(stored)
        stored.put(layout.EVENTS, document(book, run.run_id))
    except StoreError as error:
        raise OutsideFailed(
            f"the history of run {run.run_id} cannot be kept in its bucket: {error}"
        ) from None


def require_free(bucket: str, run_id: str) -> None:
    """Raises BadInput where the bucket has a run of that id: another ledger's, to go on with or to
    adopt. Raises OutsideFailed."""
    from results import stored_run
    from results.stores import StoreError

    try:
        found = stored_run.state(open_bucket(bucket), run_id)
    except StoreError as error:
        raise OutsideFailed(f"{bucket} cannot be looked at: {error}") from None
    if found != "absent":
        raise BadInput(
            f"{bucket} has a {found} run {run_id}; choose another --run-id, or take that one into "
            f"this ledger: launch adopt {bucket}"
        )


def fetch(run: Run) -> None:
    """Bring an ended run that this ledger knows by its bucket alone. Raises OutsideFailed."""
    from results import stored_run
    from results.stores import StoreError

    last = run.attempts[-1]
    work = executor(last.executor).folder(last.handle)
    if not (run.ended and run.bucket and run.folder is None) or (work / layout.SPEC).is_file():
        return
    try:
        stored_run.fetch(open_bucket(run.bucket), run.run_id, work)
    except StoreError as error:
        raise OutsideFailed(f"run {run.run_id} cannot be fetched: {error}") from None
