"""answers.jsonl: every request before it is sent, and everything that came back. Only appended to.

What a crash leaves open counts as spent: a `Sent` line with no `Answer` or `Failed` to it.
"""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from jobs.outcome import BadInput


class Sent(Struct, frozen=True, kw_only=True, tag_field="event", tag="sent"):
    """A request is about to go out, and the most that it can cost."""

    at: str
    request: int  # counts up through the file
    key: str
    tokens_in_at_most: int
    tokens_out_at_most: int
    microusd_at_most: int | None  # None: no prices were given


class Answer(Struct, frozen=True, kw_only=True, tag_field="event", tag="answer"):
    """The endpoint answered. `key` is a SHA-256 (see `jobs.oracle.question`)."""

    at: str
    request: int
    key: str
    id: str | int
    raw: str  # as it came; the whole reply where that is no chat completion
    model: str | None  # as the endpoint names it
    finish_reason: str | None
    tokens_in: int | None  # None: not reported, so the request counts as it was at most
    tokens_out: int | None
    microusd: int | None
    scores: dict[str, float] | None
    unusable: str | None  # why there are no scores


class Failed(Struct, frozen=True, kw_only=True, tag_field="event", tag="failed"):
    """No answer. `billed` says whether the endpoint may have worked on it all the same."""

    at: str
    request: int
    key: str
    id: str | int
    error: str
    status: int | None
    billed: bool


Event = Sent | Answer | Failed

_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


@dataclass
class Past:
    """What earlier starts left."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # by key
    unusable: dict[str, list[str]] = field(default_factory=dict)  # reasons by key
    answers: list[Answer] = field(default_factory=list)  # without their raw text
    open: dict[int, Sent] = field(default_factory=dict)  # cost unknown, by request
    requests: int = 0
    unreadable_lines: int = 0

    def add(self, event: Event) -> None:
        self.requests = max(self.requests, event.request)
        if isinstance(event, Sent):
            self.open[event.request] = event
            return
        if isinstance(event, Failed):
            if not event.billed:
                self.open.pop(event.request, None)
            return
        if event.tokens_in is not None and event.tokens_out is not None:
            self.open.pop(event.request, None)
        self.answers.append(msgspec.structs.replace(event, raw=""))
        if event.scores is not None:
            self.scores[event.key] = event.scores
        else:
            self.unusable.setdefault(event.key, []).append(event.unusable or "")


class Journal:
    """The file, held by a lock for as long as it is open."""

    def __init__(self, path: Path) -> None:
        """Raises `BadInput` when another process writes to it."""
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BadInput(f"output: another process is labelling into {path.parent}") from None
        self.past = Past()
        last = b"\n"
        self._file.seek(0)
        for last in self._file:
            try:
                self.past.add(_DECODER.decode(last))
            except msgspec.DecodeError:
                self.past.unreadable_lines += bool(last.strip())
        if not last.endswith(b"\n"):  # torn by a crash: what follows starts on a line of its own
            self._file.write(b"\n")
        self._sync()
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # the file's name, too, is to outlive the machine's crash
        os.close(folder)

    def write(self, event: Event) -> None:
        """On return the line is on the disk."""
        self._file.write(msgspec.json.encode(event) + b"\n")
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
