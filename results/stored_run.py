"""A run in a store: `<store>/<run_id>/` with the names of a collected run.

While it is written, writer.json says whose it is. SHA256SUMS is written last: with it the run is
complete and stays as it is, without it the run is visibly partial.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import msgspec

from jobs import layout
from jobs.spec import Complete
from results.stores import Damaged, Store, Stored, StoreError, Taken, below
from results.sums import has_line, read_sums, sha256_of, write_sums

State = Literal["absent", "partial", "complete"]
Say = Callable[[str], None]  # one line for people
R = TypeVar("R")

AT_ONCE = 10  # files, as many as results.s3 has requests


class Refused(StoreError):
    """The run is another's to write, or finished: trying again does not help."""


class Writer(msgspec.Struct, frozen=True):
    """Who writes a run: one folder on one machine."""

    writer: str


class StoredRun:
    """Reads and writes one run. All methods raise StoreError."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self.url = f"{store.url}/{run_id}"
        self._known: dict[str, Stored] = {}

    def key(self, name: str) -> str:
        return f"{self.run_id}/{name}"

    def names(self, prefix: str = "") -> list[str]:
        """What is there, finished or not."""
        return list(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The same, with what each has in bytes."""
        found = self.store.sizes(self.key(prefix))
        return {key.removeprefix(f"{self.run_id}/"): size for key, size in found.items()}

    def sums(self) -> dict[str, str] | None:
        """Name → SHA-256 of all that a complete run holds; None while it is not complete."""
        found = self.store.read(self.key(layout.SUMS))
        return None if found is None else self.read_sums(found[0])

    def read_sums(self, content: bytes) -> dict[str, str]:
        """Raises Damaged for what is no text."""
        try:
            return read_sums(content.decode())
        except UnicodeDecodeError as error:
            raise Damaged(f"{self.url}/{layout.SUMS} is damaged: {error}") from None

    def put(self, name: str, source: Path | bytes) -> Stored:
        """Write a file of the run, unless just that is there. Raises Taken for another writer."""
        there = self._known.get(name) or self.store.find(self.key(name))
        if there is not None and there.sha256 == sha256_of(source):
            self.store.progress.moved(there.size_bytes)
        else:
            try:
                there = self.store.put(self.key(name), source, there)
            except Taken:
                # a request that was repeated, its first answer lost, meets its own work
                self._known.pop(name, None)
                there = self.store.find(self.key(name))
                if there is None or there.sha256 != sha256_of(source):
                    raise
        self._known[name] = there
        return there

    def remove(self, name: str) -> None:
        self._known.pop(name, None)
        self.store.remove(self.key(name))

    def seal(self, sums: Mapping[str, str]) -> None:
        """Write SHA256SUMS: from here on nothing that it lists changes.

        What only a restart reads goes after it. Can be called again after an error.
        """
        try:
            self.store.put(self.key(layout.SUMS), write_sums(sums), None)
        except Taken:  # by a request whose answer was lost, or by another
            if self.sums() != sums:
                raise finished(self) from None
        self.store.clear(f"{self.run_id}/")
        for name in self.names():
            if name != layout.WRITER and _is_of_the_writing(name):
                self.remove(name)

    def claim(self, folder: Path, take_over: bool) -> None:
        """The run is this folder's to write, as it was or from now on.

        `take_over`: it is, whoever had it; that one is refused from now on. Raises Refused while
        it is another's.
        """
        mine, key = folder / layout.WRITER, self.key(layout.WRITER)
        found = self.store.read(key)
        if found is not None and not take_over:
            self._require_own(found[0], mine)
            return
        content = msgspec.json.encode(Writer(uuid.uuid4().hex))
        mine.write_bytes(content)  # first: a claim whose owner does not know of it helps nobody
        try:
            self.store.put(key, content, None if found is None else found[1])
        except Taken:
            self.require_claim(folder)

    def require_claim(self, folder: Path) -> None:
        """Raises Refused when the run has been taken over."""
        found = self.store.read(self.key(layout.WRITER))
        self._require_own(b"" if found is None else found[0], folder / layout.WRITER)

    def require_same_job(self, folder: Path) -> None:
        """Raises Refused when another job, its deadline aside, stands there under this run id."""
        found = self.store.read(self.key(layout.SPEC))
        if found is not None and _job(found[0]) != _job((folder / layout.SPEC).read_bytes()):
            raise Refused(
                f"{self.url} holds another job under this run id: its {layout.SPEC} differs\n"
                "choose another --run-id or --store"
            )

    def _require_own(self, claim: bytes, mine: Path) -> None:
        if not (mine.is_file() and mine.read_bytes() == claim):
            raise Refused(
                f"{self.url} is written from elsewhere\n"
                "end that one, take the run over with --restore, or choose another --run-id"
            )


def state(store: Store, run_id: str) -> State:
    """How much of a run is there."""
    run = StoredRun(store, run_id)
    if run.sums() is not None:
        return "complete"
    return "partial" if run.names() else "absent"


def fetch(store: Store, run_id: str, folder: Path, say: Say = lambda _: None) -> State:
    """Bring a run to a folder: what is not there yet or differs, each file verified.

    Of a complete run SHA256SUMS comes last; of a partial one comes what there is, but nothing that
    only a restart reads. Raises StoreError, Damaged for what is not what was put there; the files
    that came before it stay.
    """
    run = StoredRun(store, run_id)
    sums, there = run.sums(), run.sizes()
    if sums is None:
        names = [name for name in there if not _is_of_the_writing(name)]
        expected = dict(zip(names, _each(lambda n: _sha256_there(run, n), names), strict=True))
    else:
        expected = dict(sums)
    lacking = [name for name, sha256 in expected.items() if not _is_here(folder, name, sha256)]

    def bring(name: str) -> None:
        say(f"fetching {name}")
        listed = None if sums is None else sums[name]
        store.get(run.key(name), below(folder, require_inside(name)), listed)

    with _seen(
        store, f"fetching {run_id} from {store.url}", sum(there.get(name, 0) for name in lacking)
    ):
        _each(bring, lacking)
    if sums is None:
        return "partial" if there else "absent"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / layout.SUMS).write_bytes(write_sums(sums))
    return "complete"


def _sha256_there(run: StoredRun, name: str) -> str | None:
    there = run.store.find(run.key(name))
    return None if there is None else there.sha256


def _is_here(folder: Path, name: str, sha256: str | None) -> bool:
    path = below(folder, require_inside(name))
    return sha256 is not None and path.is_file() and sha256_of(path) == sha256


def push(store: Store, run_id: str, home: Path, say: Say = lambda _: None) -> None:
    """Bring a collected run to a store: what is not there yet, SHA256SUMS last.

    Raises Refused when the store has another complete run of that id, or another writer took it
    over meanwhile; Damaged when a file here is not the one that was collected.
    """
    run = StoredRun(store, run_id)
    wanted = read_sums((home / layout.SUMS).read_text())
    there = run.sums()
    if there is not None:
        if there != wanted:
            raise finished(run)
        return

    def send(name: str) -> None:
        say(f"sending {name}")
        if run.put(name, home / name).sha256 != wanted[name]:
            raise Damaged(f"{home / name} has changed since it was collected; {run.url} stays open")

    with tempfile.TemporaryDirectory() as own:
        run.claim(Path(own), take_over=True)
        size = sum((home / name).stat().st_size for name in wanted)
        with _seen(store, f"sending {run_id} to {store.url}", size):
            _each(send, wanted)
        run.require_claim(Path(own))
        run.seal(wanted)


def _each(do: Callable[[str], R], names: Iterable[str]) -> list[R]:
    """Several at once: a small file waits for its answers, and costs little else."""
    from concurrent.futures import ThreadPoolExecutor  # a plan moves no files

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(do, names))


@contextlib.contextmanager
def _seen(store: Store, what: str, size_bytes: int) -> Iterator[None]:
    store.progress.begin(what, size_bytes)
    try:
        yield
    finally:
        store.progress.end()


def add(store: Store, run_id: str, documents: Mapping[str, bytes]) -> None:
    """Put documents (plan, receipt, report) beside what a complete run holds.

    SHA256SUMS grows by them; what it listed stays. Raises Refused when it lists another document of
    that name, StoreError when the run is not complete.
    """
    run = StoredRun(store, run_id)
    found = store.read(run.key(layout.SUMS))
    if found is None:
        raise StoreError(f"{run.url} is not complete; documents are added when it is")
    sums = run.read_sums(found[0])
    new = {name: sha256_of(content) for name, content in documents.items()}
    if any(sums.get(name, digest) != digest for name, digest in new.items()):
        raise finished(run)
    for name, content in documents.items():
        run.put(name, content)
    if not new.items() <= sums.items():
        store.put(run.key(layout.SUMS), write_sums({**sums, **new}), found[1])


def finished(run: StoredRun) -> Refused:
    return Refused(
        f"{run.url} is a finished run, which stays as it is\nchoose another --run-id or --store"
    )


def checkpoints(run: StoredRun) -> dict[str, list[str]]:
    """The checkpoints of a run that were uploaded whole: name → files inside, newest first."""
    found: dict[str, list[str]] = {}
    for name in run.names(f"{layout.CHECKPOINTS}/"):
        _, folder, *inside = PurePosixPath(name).parts
        found.setdefault(folder, []).append("/".join(inside))
    whole = [name for name in found if layout.COMPLETE in found[name]]
    return {name: found[name] for name in layout.newest_first(whole)}


def read_complete(content: bytes, what: str) -> Complete:
    try:
        return msgspec.json.decode(content, type=Complete)
    except msgspec.DecodeError as error:
        raise Damaged(f"{what} is damaged: {error}") from None


def require_inside(name: str) -> str:
    """A name from a store, which must not lead out of the folder it is brought to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not has_line(name):
        raise Damaged(f"{name!r} is no file's name of a run; the store has been tampered with")
    return name


def _job(spec: bytes) -> dict[str, Any]:
    job = msgspec.json.decode(spec, type=dict[str, Any])
    for key in ("deadline", "provenance"):  # of an attempt: no part of what is trained
        job.pop(key, None)
    return job


def _is_of_the_writing(name: str) -> bool:
    """What the next attempt needs, and nobody once the run is complete."""
    return name in (layout.WRITER, *layout.RESTART) or name.startswith(f"{layout.CHECKPOINTS}/")
