"""What the command prints: answers to stdout, everything else to stderr."""

from typing import Any

import click
import msgspec


def write_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value))


def say(line: str) -> None:
    click.echo(line, err=True)
