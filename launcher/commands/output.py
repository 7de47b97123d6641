"""What the command prints: answers to stdout, everything else to stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec


def write_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value))


def say(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def transfers_shown() -> Iterator[None]:
    """What moves to and from a bucket meanwhile, where it is much."""
    from launcher.buckets import shown_to
    from launcher.display.progress import Transfers

    with shown_to(Transfers(say)):
        yield
