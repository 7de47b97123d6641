"""Where runs are kept: a folder, or `s3://bucket/prefix` of any S3-compatible endpoint.

One protocol. Keys are relative paths with `/`. Every write names what it replaces, so that of two
writers one is refused, and every read is held against a SHA-256.
"""

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from jobs import layout
from results.sums import sha256_of


class StoreError(Exception):
    """What failed, why, and what to do next, in at most three lines."""


class Taken(StoreError):
    """Somebody else wrote there first."""


class Damaged(StoreError):
    """What is there is not what was put there."""


class Stored(Struct, frozen=True):
    """One object of a store."""

    size_bytes: int
    sha256: str | None  # as its writer said; None where something else than this project put it
    version: str  # another one after every write; means something to its store alone


class Progress(Protocol):
    """Told of what is moved between here and a store; `moved` by any thread."""

    def begin(self, what: str, size_bytes: int) -> None: ...

    def moved(self, size_bytes: int) -> None:
        """After each part that has arrived, or was there already."""

    def end(self) -> None:
        """All is moved, or it failed."""


class Unseen:
    """Nobody looks."""

    def begin(self, what: str, size_bytes: int) -> None: ...

    def moved(self, size_bytes: int) -> None: ...

    def end(self) -> None: ...


class Store(Protocol):
    """All methods raise StoreError, and may be called by several threads."""

    url: str
    progress: Progress

    def find(self, key: str) -> Stored | None:
        """The object there, or None."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """All keys that begin so, sorted, and how many bytes they have; no unfinished uploads."""

    def put(self, key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        """Write the object whole or not at all, as a new one or in the place of that very one.

        Raises Taken when something else is there. What an interrupted put of the same content has
        left is used by the next.
        """

    def read(self, key: str) -> tuple[bytes, Stored] | None:
        """A small object whole, as it is now, or None. Raises Damaged."""

    def get(self, key: str, target: Path, sha256: str | None = None) -> None:
        """Bring the object to a file, which is there whole or not at all.

        Raises Damaged when it is not there, or has not this SHA-256, or without one the SHA-256 it
        was put with; Taken when it changes meanwhile.
        """

    def remove(self, key: str) -> None:
        """Whether it is there or not."""

    def clear(self, prefix: str) -> None:
        """Remove what unfinished uploads to such keys have left."""


def mistake_in(url: str) -> str:
    """Why a store's address can be none, in words; empty for a folder and for s3://BUCKET..."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme != "s3":
        return f"{scheme}:// is none that is known; give a folder or s3://BUCKET/PREFIX"
    if separator and not rest.partition("/")[0]:
        return "no bucket; write s3://BUCKET/PREFIX"
    if re.match(r"[a-z][a-z0-9+.-]*:/(?!/)", url, re.IGNORECASE):
        return f"one slash; write s3://BUCKET/PREFIX, or ./{url} for a folder of that name"
    return ""


def open_store(url: str, progress: Progress | None = None) -> Store:
    """The store that a folder's path or an `s3://` address names. Nothing is asked of it yet.

    S3 takes its endpoint and its credentials from the environment (AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE ...), as boto3 does.
    """
    mistake, seen = mistake_in(url), progress or Unseen()
    if mistake:
        raise StoreError(f"store {url}: {mistake}")
    if "://" not in url:
        return FolderStore(Path(url), seen)
    from results.s3 import S3Store

    return S3Store(url, seen)


def require_writable(store: Store) -> None:
    """Find out before money is spent: writes, refuses a second writer, reads and removes.

    Leaves nothing behind.
    """
    key = f".check-{uuid.uuid4().hex}{layout.TEMPORARY_SUFFIX}"
    store.clear(key)  # the right to look for unfinished uploads is one of its own
    store.put(key, b"first", None)
    try:
        store.put(key, b"second", None)
    except Taken:
        return
    finally:
        store.remove(key)
    raise StoreError(
        f"store {store.url} takes a second object in the place of a first: "
        "its endpoint ignores If-None-Match\ntwo writers could mix; use another store"
    )


def require_sha256(wanted: str | None, found: str, what: str) -> None:
    """Raises Damaged when both are known and differ."""
    if wanted is not None and wanted != found:
        raise Damaged(
            f"{what} is damaged: its SHA-256 is {found[:12]}..., {wanted[:12]}... was put there\n"
            "remove it and upload it again from where the run was made"
        )


def below(folder: Path, name: str) -> Path:
    """A file's path in a folder. Raises Damaged where a link on the way leads elsewhere."""
    path = folder / name
    if Path(os.path.realpath(path)) != Path(os.path.realpath(folder)) / name:
        raise Damaged(
            f"{path} is a link, or behind one, and what it leads to is no part of the run\n"
            "put the file or folder itself there"
        )
    return path


class FolderStore:
    """A folder of this machine, or of a network that keeps link() and rename() atomic."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self._root = root.absolute()
        self.url = str(self._root)
        self.progress = progress

    def find(self, key: str) -> Stored | None:
        path = below(self._root, key)
        with self._said(f"look at {key}"):
            try:
                digest = sha256_of(path)
                return Stored(path.stat().st_size, digest, digest)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def sizes(self, prefix: str) -> dict[str, int]:
        # only the folder that holds such keys is walked
        top = self._root / prefix.rpartition("/")[0]
        found = {}
        with self._said("list it"):
            for path in top.rglob("*"):
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not key.endswith(layout.TEMPORARY_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        if path.is_file():
                            found[key] = path.stat().st_size
        return dict(sorted(found.items()))

    def put(self, key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        target = below(self._root, key)
        with self._said(f"write {key}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = _aside(target)
            try:
                _copy(source, aside)
                digest, size = sha256_of(aside), aside.stat().st_size
                with _alone_in(target.parent):
                    self._require(key, replacing)
                    if replacing is None:
                        os.link(aside, target)
                    else:
                        os.replace(aside, target)
            except FileExistsError:
                raise taken(self.url, key) from None
            finally:
                aside.unlink(missing_ok=True)
        self.progress.moved(size)
        return Stored(size, digest, digest)

    def read(self, key: str) -> tuple[bytes, Stored] | None:
        with self._said(f"read {key}"):
            try:
                content = below(self._root, key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        digest = sha256_of(content)
        return content, Stored(len(content), digest, digest)

    def get(self, key: str, target: Path, sha256: str | None = None) -> None:
        with self._said(f"read {key}"), written_aside(target) as aside:
            try:
                _copy(below(self._root, key), aside)
            except FileNotFoundError:
                raise missing(self.url, key) from None
            require_sha256(sha256, sha256_of(aside), f"{self.url}/{key}")
            self.progress.moved(aside.stat().st_size)

    def remove(self, key: str) -> None:
        path = self._root / key
        with self._said(f"remove {key}"):
            path.unlink(missing_ok=True)
            self._remove_empty(path.parent)

    def clear(self, prefix: str) -> None:
        with self._said("remove unfinished uploads"):
            for path in list((self._root / prefix).rglob(f"*{layout.TEMPORARY_SUFFIX}")):
                path.unlink(missing_ok=True)

    def _remove_empty(self, folder: Path) -> None:
        """An object store has no empty folders either."""
        with contextlib.suppress(OSError):  # not empty, or not there
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _require(self, key: str, replacing: Stored | None) -> None:
        if replacing is not None and self.find(key) != replacing:
            raise taken(self.url, key)

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise StoreError(
                f"store {self.url}: cannot {what}: {error.strerror or error}\n"
                "look at the folder's rights and its free space"
            ) from None


def taken(url: str, key: str) -> Taken:
    return Taken(f"{url}/{key}: somebody else has written it meanwhile")


def missing(url: str, key: str) -> Damaged:
    return Damaged(f"{url}/{key} is not there any more; somebody has removed it")


@contextlib.contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A name beside `target` to write to, for this writer alone; moved into its place at the end,
    or removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target)
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _aside(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}{layout.TEMPORARY_SUFFIX}")


def _copy(source: Path | bytes, target: Path) -> None:
    with target.open("wb") as out:
        if isinstance(source, bytes):
            out.write(source)
        else:
            with source.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Between the look at what is replaced and the move into its place nobody else writes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
