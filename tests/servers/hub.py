"""A Hugging Face Hub on loopback: data sets and models are read here, `hub_writing` takes what is
published.

Written from what huggingface_hub 2.4.0 sends and expects; each route names the file and function
of the client that calls it. What is gated is refused to all but one token (403, or 401 without
one: GatedRepo). What is private is not found with a token that does not open it, and asks for one
without (401), as on the Hub. The client needs HF_ENDPOINT set to `url`, and HF_HUB_DISABLE_XET=1.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from tests.servers import hub_writing
from tests.servers.hub_repositories import Hub, Refused, Repository, is_large, sha256

__all__ = ["Hub", "Repository", "running"]


class Answer(BaseHTTPRequestHandler):
    """One connection; a request is answered by the first of _ROUTES that matches."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def log_message(self, *_: object) -> None:
        """Quiet: `Hub.requests` has them."""

    def _route(self) -> None:
        self._read: bytes | None = None
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.silent is not None:
            self.hub.silent.wait(60)
        if self.command == "PUT" and self.hub.cuts > 0:
            self.hub.cuts -= 1
            self.rfile.read(1 << 16)
            self.close_connection = True
            return None
        self.body()  # whole, or the connection's next request would begin in it
        if self.hub.breaks_off is not None and self.hub.breaks_off in path:
            self.close_connection = True
            return None
        if path in self.hub.moved:
            return self.send(307, b"", {"Location": self.hub.moved[path]})
        try:
            for methods, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match is not None and self.command in methods.split():
                    return answer(self, **match.groupdict())
            raise Refused(404, "EntryNotFound")
        except Refused as refused:
            body = json.dumps({"error": refused.message}).encode()
            self.send(refused.status, body, {"X-Error-Code": refused.code})

    def body(self) -> bytes:
        """What came with the request, whole or in chunks."""
        if self._read is None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                self._read = b"".join(self._chunks())
            else:
                self._read = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self._read

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def repository(self, kind: str, name: str) -> Repository:
        found = (self.hub.datasets if kind == "datasets" else self.hub.models).get(name)
        opens = (None, self.token)
        if found is None or (found.private_to not in opens and self.token not in found.written_by):
            raise Refused(404 if self.token else 401, "RepoNotFound")
        return found

    def commit_of(self, kind: str, name: str, revision: str | None) -> tuple[str, dict[str, bytes]]:
        repository = self.repository(kind, name)
        sha = repository.resolve(revision or "main")
        if sha is None:
            raise Refused(404, "RevisionNotFound")
        return sha, repository.commits[sha]

    def send_json(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _whoami(answer: Answer) -> None:
    """GET /api/whoami-v2: hf_api.py, HfApi.whoami; here launcher/checking/hub_access.py asks it."""
    account = answer.hub.accounts.get(answer.token)
    if account is None:
        raise Refused(401, "")
    answer.send_json(200, account)


def _may_write(answer: Answer, name: str) -> None:
    """GET /api/models/ID/auth-check/write: hf_api.py, HfApi.auth_check; here hub_access.push."""
    if answer.token not in answer.repository("models", name).written_by:
        raise Refused(403, "")
    answer.send_json(200, {})


def _info(answer: Answer, kind: str, name: str, revision: str | None) -> None:
    """GET /api/KIND/ID[/revision/REVISION]: hf_api.py, HfApi.dataset_info and model_info."""
    sha, files = answer.commit_of(kind, name, revision)
    siblings = [{"rfilename": file} for file in sorted(files)]
    private = answer.repository(kind, name).private_to is not None
    info = {"id": name, "sha": sha, "private": private, "siblings": siblings, "tags": []}
    answer.send_json(200, info | {"downloads": 0})


def _tree(answer: Answer, name: str, revision: str) -> None:
    """GET /api/models/ID/tree/REVISION: hf_api.py, list_repo_tree, for snapshot_download."""
    _, files = answer.commit_of("models", name, revision)
    answer.send_json(200, [hub_writing.entry(path, files[path]) for path in sorted(files)])


def _file(answer: Answer, name: str, revision: str, file: str, kind: str | None = None) -> None:
    """HEAD and GET of resolve: file_download.py, get_hf_file_metadata and http_get."""
    sha, files = answer.commit_of(kind or "models", name, revision)
    gated_to = answer.repository(kind or "models", name).gated_to
    if gated_to not in (None, answer.token):
        raise Refused(403 if answer.token else 401, "GatedRepo")
    if file not in files:
        raise Refused(404, "EntryNotFound")
    content = files[file]
    headers = {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
    if kind is None and is_large(file, len(content)):
        oid = sha256(content)
        answer.hub.large[oid] = content
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        location = f"{hub_writing.storage_url(answer.hub)}/file/{oid}"
        return answer.send(302, b"", headers | {"Location": location})
    return _content(answer, content, headers)


def _stored(answer: Answer, oid: str) -> None:
    """GET where resolve leads for a large file: file_download.py, http_get."""
    _content(answer, answer.hub.large[oid], {"ETag": f'"{oid}"'})


def _content(answer: Answer, content: bytes, headers: dict[str, str]) -> None:
    start = re.fullmatch(r"bytes=(\d+)-", answer.headers.get("Range") or "")
    if start is None:
        return answer.send(200, content, headers)
    first = int(start[1])
    headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
    return answer.send(206, content[first:], headers)


_ID = r"(?P<name>[\w.-]+/[\w.-]+)"
_ROUTES = (
    *hub_writing.ROUTES,
    ("GET", rf"/api/(?P<kind>datasets|models)/{_ID}(?:/revision/(?P<revision>.+))?", _info),
    ("GET", rf"/api/models/{_ID}/tree/(?P<revision>[^/]+)", _tree),
    (
        "GET HEAD",
        rf"(?:/(?P<kind>datasets))?/{_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)",
        _file,
    ),
    ("GET HEAD", r"/storage/file/(?P<oid>\w+)", _stored),
    ("GET", r"/api/whoami-v2", _whoami),
    ("GET", rf"/api/models/{_ID}/auth-check/write", _may_write),
)


@contextmanager
def running() -> Iterator[Hub]:
    """An empty Hub on a free port, ended with the block."""
    hub = Hub()
    handler = type("Handler", (Answer,), {"hub": hub})
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
