"""Options that several commands share."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from launcher.errors import BadInput

if TYPE_CHECKING:
    from launcher.recipes import Flags


def dollar_amount(text: str) -> float:
    """Dollars from nothing to the most that a cap may be. Raises click.BadParameter."""
    from launcher.types import MOST_USD

    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= MOST_USD:  # nor NaN
        raise click.BadParameter(f"{text}: expected dollars from 0 to {MOST_USD:,}")
    return amount


def store_address(text: str) -> str:
    """A folder, or an address that some store can have. Raises click.BadParameter."""
    from results.stores import mistake_in

    mistake = mistake_in(text)
    if mistake:
        raise click.BadParameter(f"{text}: {mistake}")
    return text


JOB_FLAGS = (
    click.option("--strategy", metavar="auto|qlora|lora|full", help="How to train."),
    click.option(
        "--max-cost", type=dollar_amount, metavar="USD", help="Cap on the whole run's dollars."
    ),
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
        "--track",
        metavar="TRACKER",
        help="Curves also to tensorboard, trackio, wandb or mlflow.",
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a recipe key: lora.r=8."
    ),
)
PUBLISH_FLAGS = (
    click.option("--public", is_flag=True, help="For all to see.  [default: private]"),
    click.option(
        "--license", "licence", metavar="ID", help="As the Hub names it: apache-2.0, mit."
    ),
)
JSON_FLAG = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def job_flags(command: Callable[..., None]) -> Callable[..., None]:
    for flag in reversed(JOB_FLAGS):
        command = flag(command)
    return command


def publish_flags(command: Callable[..., None]) -> Callable[..., None]:
    for flag in reversed(PUBLISH_FLAGS):
        command = flag(command)
    return command


class Hub(NamedTuple):
    """Where a run is published once its gates pass, and how."""

    repository: str  # ORG/NAME
    public: bool = False
    licence: str | None = None

    def command(self, run_id: str) -> str:
        """What publishes the run so from any terminal."""
        words = ["launch", "publish", run_id, "--hub", self.repository]
        words += ["--public"] if self.public else []
        words += ["--license", self.licence] if self.licence is not None else []
        return shlex.join(words)


def hub_of(repository: str | None, public: bool, licence: str | None) -> Hub | None:
    """Raises BadInput for what is no name on the Hub, and for what says how to publish where
    nothing says that one should."""
    if repository is not None:
        from launcher.checking import hub_access  # HTTP and TLS: for those who publish

        named = hub_access.name(repository)
        if named.state == "failed":
            raise BadInput(named.line)
        return Hub(repository, public, licence)
    if public or licence is not None:
        flag = "--public" if public else "--license"
        raise BadInput(f"{flag} says how to publish: give --hub ORG/NAME with it")
    return None


def flags(given: dict[str, Any]) -> "Flags":
    from launcher.recipes import Flags  # YAML and all: not for `--help`

    return Flags(**given)
