"""A Hugging Face Hub on loopback, as far as the real client asks it for data sets.

Written from what huggingface_hub 2.4 sends and expects: repository info by revision, and files by
commit (HEAD and GET of `resolve`, with X-Repo-Commit and ETag). What is private is not found with
a token that does not open it, and asks for one without (401), as on the Hub. The client needs
HF_ENDPOINT set to `url`, and HF_HUB_DISABLE_XET=1.
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
        try:
            for pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match is not None:
                    return answer(self, **match.groupdict())
            raise _NotThere(404, "EntryNotFound")
        except _NotThere as missing:
            body = json.dumps({"error": missing.code}).encode()
            self._send(missing.status, body, {"X-Error-Code": missing.code})

    def _repository(self, name: str) -> Repository:
        found = self.hub.datasets.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if found is None or found.private_to not in (None, token):
            raise _NotThere(404 if token else 401, "RepoNotFound")
        return found

    def _commit(self, name: str, revision: str | None) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(name)
        sha = repository.resolve(revision or "main")
        if sha is None:
            raise _NotThere(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def _info(self, name: str, revision: str | None) -> None:
        sha, files = self._commit(name, revision)
        siblings = [{"rfilename": file} for file in sorted(files)]
        info = {"id": name, "sha": sha, "siblings": siblings, "tags": [], "downloads": 0}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, file: str) -> None:
        sha, files = self._commit(name, revision)
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
    (rf"/datasets/{_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Answer._file),
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
