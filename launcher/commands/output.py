"""What the command prints: answers to stdout, everything else to stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec


def write_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value))
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.obj, Answer):
        context.obj.given = True


class Answer:
    """Whether the one object of --json stands on stdout."""

    def __init__(self, wanted: bool) -> None:
        self.wanted, self.given = wanted, False

    def fail(self, message: str, exit_code: int) -> None:
        """An error is the object where there is none yet."""
        if self.wanted and not self.given:
            write_json({"error": message, "exit": exit_code})


def say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def ending_with(code: int) -> Iterator[None]:
    """What is printed here is about what is over: the command ends with this code, also where a
    reader such as `head` has had enough of it."""
    try:
        yield
    except BrokenPipeError:
        nobody_reads()
    if code:
        sys.exit(code)


def nobody_reads() -> None:
    """Where nobody reads any more, nothing is written, nor at the interpreter's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def transfers_shown() -> Iterator[None]:
    """What moves to and from a bucket meanwhile, where it is much."""
    from launcher.buckets import shown_to
    from launcher.display.progress import Transfers

    with shown_to(Transfers(say)):
        yield
