"""Options that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from launcher.recipes import Flags

JOB_FLAGS = (
    click.option("--strategy", metavar="auto|qlora|lora|full", help="How to train."),
    click.option("--max-cost", type=float, metavar="USD", help="Cap on the whole run's dollars."),
    click.option("--max-hours", type=float, metavar="H", help="Cap on the whole run's hours."),
    click.option("--model", metavar="ID|DIR", help="Base model: a Hub id or a folder."),
    click.option("--data", metavar="FILE|ID", help="Training rows: a file, or a Hub data set."),
    click.option("--resume-from", metavar="RUN|DIR|hub:ID", help="Go on from this adapter."),
    click.option("--on", "providers", multiple=True, metavar="PROVIDER", help="Only there."),
    click.option("--gpu", metavar="NAME[:N]", help="Only this GPU (or cpu)."),
    click.option("--spot/--no-spot", default=None, help="Whether spot offers may be chosen."),
    click.option("--image", metavar="REF", help="Start rented machines from this container image."),
    click.option("--pilot", type=int, metavar="N", help="Try N examples first; stop if hopeless."),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a recipe key: lora.r=8."
    ),
)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def job_flags(command: Callable[..., None]) -> Callable[..., None]:
    for flag in reversed(JOB_FLAGS):
        command = flag(command)
    return command


def flags(given: dict[str, Any]) -> "Flags":
    from launcher.recipes import Flags  # YAML and all: not for `--help`

    return Flags(**given)
