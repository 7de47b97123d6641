"""An OpenAI-compatible endpoint on the loopback that answers from the text itself, and fails in
every way that a test asks for."""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_SECONDS = 60.0  # after this a held request is let go, so that no test hangs


@dataclass(frozen=True)
class Reply:
    """What is sent instead of the usual answer. `content` is the model's; `body` the whole reply.

    `hang` sends nothing until the server ends, `trickle` a space now and then, `drop` closes the
    connection; `at_once` answers even while the server holds its answers.
    """

    status: int = 200
    content: str | None = None
    body: str | None = None
    finish_reason: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    usage: bool = True
    hang: bool = False
    trickle: bool = False
    drop: bool = False
    at_once: bool = False


def scores_of(prompt: str) -> dict[str, float]:
    """The usual answer: two measures of the text, between 0 and 10."""
    text = prompt.rsplit("TEXT:", 1)[-1]
    return {"length": float(min(len(text), 100)) / 10, "calm": 10.0 - min(text.count("!"), 10)}


class Oracle:
    """The endpoint and what it has seen. Use as a context manager."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.replies: dict[str, deque[Reply]] = {}  # by a word that stands in the prompt
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.arrivals: list[float] = []  # monotonic
        self.asked: Counter[str] = Counter()  # by prompt
        self.tokens = 0  # billed: of answers that were reported or sent without a report
        self.in_flight = self.most_in_flight = 0
        self.released = threading.Event()  # clear it to hold every answer
        self.released.set()
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def requests(self) -> int:
        return len(self.bodies)

    def say(self, word: str, *replies: Reply) -> None:
        """For prompts with this word: these replies first, then the usual answer."""
        self.replies[word] = deque(replies)

    def wait_for(self, condition: Callable[["Oracle"], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE_SECONDS), "never came"

    def __enter__(self) -> "Oracle":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _arrive(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        prompt = body["messages"][0]["content"]
        with self._changed:
            self.bodies.append(body)
            self.headers.append(headers)
            self.arrivals.append(time.monotonic())
            self.asked[prompt] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()
            for word, replies in self.replies.items():
                if word in prompt and replies:
                    return replies.popleft()
        return Reply()

    def _leave(self) -> None:
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def _completion(self, body: dict[str, Any], reply: Reply) -> str:
        prompt = body["messages"][0]["content"]
        content = json.dumps(scores_of(prompt)) if reply.content is None else reply.content
        used = {"prompt_tokens": len(prompt) // 4 + 8, "completion_tokens": len(content) // 3}
        with self._changed:  # each answer has a thread of its own
            self.tokens += sum(used.values())
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
        completion = {"object": "chat.completion", "model": "oracle-1-dated", "choices": [choice]}
        return json.dumps(completion | ({"usage": used} if reply.usage else {}))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        oracle = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply = oracle._arrive(body, dict(self.headers))
                try:
                    if not reply.at_once:
                        oracle.released.wait(PATIENCE_SECONDS)
                    self._answer(body, reply)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client went away
                finally:
                    oracle._leave()

            def _answer(self, body: dict[str, Any], reply: Reply) -> None:
                authorization = self.headers["Authorization"]
                if self.path != "/v1/chat/completions":
                    return self._send(404, '{"error": {"message": "no such path"}}', {})
                if authorization != f"Bearer {oracle.key}":
                    said = f"Incorrect API key provided: {authorization}"  # as some gateways do
                    return self._send(401, json.dumps({"error": {"message": said}}), {})
                if reply.hang:
                    oracle._ended.wait(PATIENCE_SECONDS)
                if reply.trickle:
                    self._trickle()
                if reply.hang or reply.trickle or reply.drop:
                    self.close_connection = True
                    return None
                if reply.status == 200:
                    text = oracle._completion(body, reply) if reply.body is None else reply.body
                else:
                    text = reply.body or json.dumps({"error": {"message": "as the test wants"}})
                return self._send(reply.status, text, reply.headers)

            def _trickle(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                while not oracle._ended.wait(0.1):
                    self.wfile.write(b" ")
                    self.wfile.flush()

            def _send(self, status: int, text: str, headers: dict[str, str]) -> None:
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        return Handler
