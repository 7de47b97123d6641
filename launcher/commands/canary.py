"""`launch canary`: what a provider does on the user's own account."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.commands.options import JSON_FLAG, dollar_amount, store_address
from launcher.commands.output import ending_with, say, write_json

if TYPE_CHECKING:
    from launcher.planning.canary import PartName

EXITS = {"proved": 0, "failed": 1, "over budget": 3, "outside failed": 4}
PARTS: tuple["PartName", ...] = ("receipt", "machine", "guard")


@click.command()
@click.option("--on", "provider", required=True, metavar="PROVIDER", help="Where to rent.")
@click.option(
    "--max-cost", type=dollar_amount, required=True, metavar="USD", help="Cap on all parts."
)
@click.option("--gpu", metavar="NAME", help="On this GPU.  [default: the cheapest]")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(PARTS),
    help="Only this one; may be given again.  [default: all]",
)
@click.option(
    "--store",
    type=store_address,
    default="runs",
    metavar="DIR",
    help="Where its receipt goes.  [default: runs]",
)
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@JSON_FLAG
def canary(
    provider: str,
    max_cost: float,
    gpu: str | None,
    parts: tuple[str, ...],
    store: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Prove a provider on your own account with the sample job, and print a receipt.

    \b
    receipt  the sample job from plan to receipt
    machine  a job without end, nobody looks: its own machine must end it
    guard    the same with the machine's side made harmless: the guard must end it

    Each part rents one machine, under its share of --max-cost, and is a run as any other:
    `launch status`, `cancel` and `guard` find it. What was proved, when, where and for how much
    stands in STORE/CANARY/canary.txt and canary.json, to attach to a report.

    Exit codes: 0 all proved, 1 a part failed, 3 over the budget, 4 an outside system failed.
    """
    from launcher import api
    from launcher.display.canary import canary_text, intended_text
    from launcher.errors import BadInput
    from launcher.paths import is_remote

    if is_remote(store):
        raise BadInput(f"--store {store}: a canary's receipt goes into a folder of this machine")
    names = tuple(name for name in PARTS if name in parts or not parts)
    made = api.canary(provider, gpu, max_cost, names, store, now=api.utc_now(), say=say)
    click.echo(intended_text(made, names), err=as_json)
    if not yes:
        _confirm(made.budget.max_cost_microusd or 0, provider)
    receipt = api.prove(made, names, Path(store), say)
    with ending_with(EXITS[receipt.verdict]):
        if as_json:
            write_json(receipt)
        else:
            click.echo(canary_text(receipt), nl=False)
        say(f"receipt: {Path(store).absolute() / receipt.canary_id}")


def _confirm(at_most_microusd: int, provider: str) -> None:
    from launcher.errors import BadInput
    from results.receipt import at_most

    if not at_most_microusd:
        return
    if not sys.stdin.isatty():
        raise BadInput("this would cost money and nobody is here to ask; add --yes to agree")
    question = f"Rent these machines, for up to {at_most(at_most_microusd)} on {provider}?"
    if not click.confirm(question, default=False, err=True):
        raise click.Abort
