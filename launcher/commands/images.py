"""`launch images build|push|check`."""

from typing import Any

import click

from launcher.commands.output import write_json

ENGINE = click.option("--engine", type=click.Choice(["docker", "podman"]), help="By which.")
TARGET = click.option(
    "--target",
    type=click.Choice(["local", "cloud"]),
    default="local",
    show_default=True,
    help="For containers on this machine, or for rented ones.",
)


@click.group()
def images() -> None:
    """Build, push and check the training image."""


@images.command()
@TARGET
@ENGINE
@click.option("--base", metavar="IMAGE", help="Another base: Debian with Python 3.11 and venv.")
@click.option("--pip-conf", metavar="FILE", help="pip's settings for the build, as a secret.")
@click.option("--ca", metavar="FILE", help="A CA bundle for the build, as a secret.")
@click.option("--network", metavar="MODE", help="The build's network, as the engine takes it.")
def build(**given: Any) -> None:
    """Build the image from this version's lock and code; prints its name and id."""
    from launcher import building

    named, digest = building.build(building.BuildFlags(**given))
    click.echo(f"{named} {digest}")


@images.command()
@click.argument("reference")
@TARGET
@ENGINE
def push(reference: str, target: Any, engine: str | None) -> None:
    """Push it as REGISTRY/NAME[:TAG]; prints NAME@sha256:..., for `image:` in a recipe."""
    from launcher import building

    click.echo(building.push(reference, target, engine))


@images.command()
@click.argument("reference", required=False)
@TARGET
@ENGINE
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def check(
    context: click.Context, reference: str | None, target: Any, engine: str | None, as_json: bool
) -> None:
    """Whether an image fits this version: its code, lock, architecture, driver and size.

    REFERENCE is asked of its registry, by skopeo, and nothing is pulled; without one, this
    machine's own image is looked at.
    """
    from launcher import building
    from launcher.display.tables import table

    if reference is not None:
        found = building.check_in_registry(reference)
    else:
        found = building.check(target, engine)
    if as_json:
        write_json({"checks": found})
    else:
        rows = [[one.name, one.state, one.found, one.next] for one in found]
        click.echo(table([["check", "state", "found", "next"], *rows]), nl=False)
    if any(one.state == "failed" for one in found):
        context.exit(1)
