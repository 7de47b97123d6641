"""A Hub on loopback, as far as huggingface_hub 2.4 asks one for a repository's files: model info,
HEAD and ranged GET. It can fall silent in the middle of a file, holding the connection open."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34


class Hub(ThreadingHTTPServer):
    """Serves the files of `folder` as the repository `me/model`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.silent_after: int | None = None  # bytes of a file, from its beginning
        self.breaks_off = False  # there, instead of falling silent
        self.ranges: list[str] = []  # what was asked for with Range
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def end(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/me/model/tree/"):
            files = sorted(self.server.folder.iterdir())
            self._json([_entry(file) for file in files])
        elif self.path.startswith("/api/models/me/model"):
            siblings = [{"rfilename": p.name} for p in sorted(self.server.folder.iterdir())]
            self._json({"id": "me/model", "sha": COMMIT, "siblings": siblings})
        elif self.path.startswith("/api/"):
            self._json({"error": "Repository not found"}, 404, RepoNotFound="RepoNotFound")
        else:
            self._file(body=True)

    def _json(self, value, status=200, **headers) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if headers:
            self.send_header("X-Error-Code", headers["RepoNotFound"])
        self.end_headers()
        self.wfile.write(content)

    def _file(self, body: bool) -> None:
        file = self.server.folder / self.path.rsplit("/", 1)[-1]
        if not self.path.startswith("/me/model/resolve/") or not file.is_file():
            self._json({"error": "not found"}, 404, RepoNotFound="EntryNotFound")
            return
        content = file.read_bytes()
        start = 0
        if body and "Range" in self.headers:
            self.server.ranges.append(self.headers["Range"])
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        silent = self.server.silent_after
        end = len(content) if silent is None else max(start, min(silent, len(content)))
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if end < len(content):
            self.close_connection = True
            if self.server.breaks_off:
                self.server.silent_after = None
            else:
                self.server.released.wait(60)

    def log_message(self, *_) -> None:
        pass


def _entry(file: Path) -> dict[str, object]:
    oid = hashlib.sha1(file.read_bytes()).hexdigest()
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid}
