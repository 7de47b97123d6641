"""A model repository on the Hugging Face Hub: made, committed to at once, and looked at afterwards.

The real client does it (huggingface_hub, extra `hub`), imported where it is used. What is there
already is not sent again; one commit on the parent that was looked at, so that nobody else's work
is overwritten unseen; and what arrived is held against the files here by hash.
"""

import hashlib
import importlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from msgspec import Struct

from jobs import layout
from results.receipt import counted
from results.sums import read_sums, sha256_of

_ASKED_AT_ONCE = 500  # paths in one question. Assumption: the Hub says no limit
_CHUNK_BYTES = 1 << 20


class HubError(Exception):
    """The Hub did not do it, and another time it may: out of reach, busy, changed meanwhile."""


class HubRefused(HubError):
    """It will not do it however often it is asked: the token may not, or what was asked is bad."""


class Published(Struct, frozen=True, kw_only=True):
    """What stands on the Hub now."""

    repository: str
    url: str
    commit: str  # 40 hex digits
    committed: bool  # False: all of it stood there already
    private: bool
    files: int

    @property
    def line(self) -> str:
        """For people: what was done, and where it stands."""
        done = "published" if self.committed else "stood there already"
        seen = "private" if self.private else "public"
        count = counted(self.files, "file")
        return f"{done}: {self.url}, {seen}, commit {self.commit[:12]}, {count} verified by hash"


def publish(
    repository: str, files: Mapping[str, Path | bytes], *, token: str, public: bool, message: str
) -> Published:
    """Make `repository` hold these files, in one commit, and see that it does.

    Files of an earlier publication that are not among them go; anything else there stays. A new
    repository is private unless `public`. Raises HubRefused and HubError.
    """
    hub = _client()
    if not sys.stderr.isatty():
        importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    api = hub.HfApi(token=token)
    with _errors(repository):
        info = _repository(api, repository, public)
        if not info.private and not public:
            raise HubRefused(
                f"{repository} is public, and nothing is published openly unasked\n"
                "say --public, or name another repository"
            )
        parent = info.sha
        there = _paths(api, repository, parent, list(files))
        changed = _other(files, there)
        stale = _stale(hub, api, repository, parent, files)
        if changed or stale:
            commit = _commit(hub, api, repository, parent, files, changed, stale, message)
            _require_arrived(api, repository, commit, files)
        else:
            commit = parent
    return Published(
        repository=repository,
        url=f"{api.endpoint}/{repository}",
        commit=commit,
        committed=bool(changed or stale),
        private=bool(info.private),
        files=len(files),
    )


def _client() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise HubRefused("publishing needs the Hub's client: pip install 'loralift[hub]'") from None


def _repository(api: Any, repository: str, public: bool) -> Any:
    """What the Hub says of the repository, which is made where it is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=not public, exist_ok=True)
        return api.model_info(repository)


def _commit(
    hub: Any,
    api: Any,
    repository: str,
    parent: str,
    files: Mapping[str, Path | bytes],
    changed: list[str],
    stale: list[str],
    message: str,
) -> str:
    operations = [
        *(hub.CommitOperationAdd(name, files[name]) for name in changed),
        *(hub.CommitOperationDelete(name) for name in stale),
    ]
    done = api.create_commit(repository, operations, commit_message=message, parent_commit=parent)
    return str(done.oid)


def _stale(
    hub: Any, api: Any, repository: str, parent: str, files: Mapping[str, Path | bytes]
) -> list[str]:
    """What an earlier publication listed in its SHA256SUMS, still has, and this one has not."""
    if layout.SUMS not in _paths(api, repository, parent, [layout.SUMS]):
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = hub.hf_hub_download(
            repository, layout.SUMS, revision=parent, token=api.token, local_dir=folder
        )
        listed = read_sums(Path(path).read_text())
    return sorted(_paths(api, repository, parent, [n for n in listed if n not in files]))


def _paths(api: Any, repository: str, commit: str, names: list[str]) -> dict[str, Any]:
    """What the Hub says of those of the files that it has at the commit."""
    found: dict[str, Any] = {}
    for first in range(0, len(names), _ASKED_AT_ONCE):
        some = names[first : first + _ASKED_AT_ONCE]
        found |= {one.path: one for one in api.get_paths_info(repository, some, revision=commit)}
    return found


def _require_arrived(
    api: Any, repository: str, commit: str, files: Mapping[str, Path | bytes]
) -> None:
    there = _paths(api, repository, commit, list(files))
    wrong = _other(files, there)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise HubError(
            f"{', '.join(wrong[:3])}{more} did not arrive whole in commit {commit[:12]} of "
            f"{repository}"
        )


def _other(files: Mapping[str, Path | bytes], there: Mapping[str, Any]) -> list[str]:
    """Which of the files the Hub has not, or not like this, by the hash that it keeps: SHA-256 of a
    large file, git's own of another."""
    sums = files.get(layout.SUMS)
    known = read_sums(sums.decode()) if isinstance(sums, bytes) else {}

    def same(name: str, content: Path | bytes) -> bool:
        its = there.get(name)
        if its is None or its.lfs is None:
            return its is not None and bool(its.blob_id == git_blob(content))
        return bool(its.lfs.sha256 == (known.get(name) or sha256_of(content)))

    return [name for name, content in files.items() if not same(name, content)]


def git_blob(content: Path | bytes) -> str:
    """Git's name of a file: SHA-1 of `blob`, its length, a zero byte and itself."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _errors(repository: str) -> Iterator[None]:
    """The client's errors, and those of its transport, share no base: any becomes one of ours."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        raise _translated(repository, error) from error


def _translated(repository: str, error: Exception) -> HubError:
    status = _status(error)
    said = " ".join(str(error).split())[:300]
    if status == 412:
        return HubError(f"{repository} was changed meanwhile, and nothing was committed to it")
    if status in (401, 403):
        return HubRefused(
            f"HF_TOKEN may not write to {repository} ({status})\n"
            "give a token of role write, of somebody who may"
        )
    if status == 404:
        return HubRefused(f"the Hub has no {repository}, or does not show it to HF_TOKEN")
    if isinstance(error, ValueError) and not isinstance(error, JSONDecodeError):
        return HubRefused(f"the Hub's client refuses {repository}: {said}")
    return HubError(f"publishing to {repository} failed: {type(error).__name__}: {said}")


def _status(error: BaseException | None) -> int | None:
    """Of the HTTP answer behind the error, which an upload wraps into others."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None
