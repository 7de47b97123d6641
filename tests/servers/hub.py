"""A Hugging Face Hub on loopback, as far as it is asked for data sets, and what a token may do.

Written from what huggingface_hub 2.4 sends and expects: repository info by revision, files by
commit (HEAD and GET of `resolve`, with X-Repo-Commit and ETag), whoami-v2, auth-check/write. What
is gated is refused to all but one token (403, or 401 without one: GatedRepo). What is private is
not found with a token that does not open it, and asks for one without (401), as on the Hub. The
client needs HF_ENDPOINT set to `url`, and HF_HUB_DISABLE_XET=1.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Commits of files; `main` is the newest."""

    private_to: str | None = None  # the token that opens it
    gated_to: str | None = None  # the token whose owner was let in
    written_by: tuple[str, ...] = ()  # tokens that may push
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], tag: str | None = None) -> str:
        """Add a commit with these files and no others; returns its 40 hex digits."""
        digest = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode())
        sha = digest.hexdigest()
        self.commits[sha] = dict(files)
        self.revisions |= {"main": sha, **({tag: sha} if tag else {})}
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit names."""
        return revision if revision in self.commits else self.revisions.get(revision)


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    url: str = ""
    datasets: dict[str, Repository] = field(default_factory=dict)
    models: dict[str, Repository] = field(default_factory=dict)
    accounts: dict[str, dict[str, object]] = field(default_factory=dict)  # token → whoami-v2
    moved: dict[str, str] = field(default_factory=dict)  # path → Location
    silent: threading.Event | None = None  # while it is not set, nothing is answered
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path, in order


class _NotThere(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Answer(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def log_message(self, *_: object) -> None:
        """Quiet: `Hub.requests` has them."""

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.silent is not None:
            self.hub.silent.wait(60)
        if path in self.hub.moved:
            return self._send(307, b"", {"Location": self.hub.moved[path]})
        try:
            for pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match is not None:
                    return answer(self, **match.groupdict())
            raise _NotThere(404, "EntryNotFound")
        except _NotThere as missing:
            body = json.dumps({"error": missing.code}).encode()
            self._send(missing.status, body, {"X-Error-Code": missing.code})

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _repository(self, kind: str, name: str) -> Repository:
        found = (self.hub.datasets if kind == "datasets" else self.hub.models).get(name)
        if found is None or found.private_to not in (None, self._token):
            raise _NotThere(404 if self._token else 401, "RepoNotFound")
        return found

    def _commit(self, kind: str, name: str, revision: str | None) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(kind, name)
        sha = repository.resolve(revision or "main")
        if sha is None:
            raise _NotThere(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def _whoami(self) -> None:
        account = self.hub.accounts.get(self._token)
        if account is None:
            raise _NotThere(401, "")
        self._send(200, json.dumps(account).encode(), {"Content-Type": "application/json"})

    def _may_write(self, name: str) -> None:
        if self._token not in self._repository("models", name).written_by:
            raise _NotThere(403, "")
        self._send(200, b"{}", {"Content-Type": "application/json"})

    def _info(self, name: str, revision: str | None) -> None:
        sha, files = self._commit("datasets", name, revision)
        siblings = [{"rfilename": file} for file in sorted(files)]
        info = {"id": name, "sha": sha, "siblings": siblings, "tags": [], "downloads": 0}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str, kind: str | None = None) -> None:
        sha, files = self._commit(kind or "models", name, revision)
        gated_to = self._repository(kind or "models", name).gated_to
        if gated_to not in (None, self._token):
            raise _NotThere(403 if self._token else 401, "GatedRepo")
        if file not in files:
            raise _NotThere(404, "EntryNotFound")
        content = files[file]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start is None:
            return self._send(200, content, headers)
        first = int(start[1])
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._send(206, content[first:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_ID = r"(?P<name>[\w.-]+/[\w.-]+)"
_ROUTES = (
    (rf"/api/datasets/{_ID}(?:/revision/(?P<revision>.+))?", _Answer._info),
    (rf"(?:/(?P<kind>datasets))?/{_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Answer._file),
    (r"/api/whoami-v2", _Answer._whoami),
    (rf"/api/models/{_ID}/auth-check/write", _Answer._may_write),
)


@contextmanager
def running() -> Iterator[Hub]:
    """An empty Hub on a free port, ended with the block."""
    hub = Hub()
    handler = type("Answer", (_Answer,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
