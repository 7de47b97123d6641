"""Runs: look at them, end them, bring them home."""

import sys
from pathlib import Path

import click

from launcher.commands.options import JSON_FLAG, store_address
from launcher.commands.output import say, transfers_shown, write_json


@click.command()
@click.option("--project", metavar="NAME", help="Those paid from its budget, and what it has left.")
@JSON_FLAG
def runs(project: str | None, as_json: bool) -> None:
    """All runs, newest first."""
    from launcher import api
    from launcher.display.runs import list_runs, project_text

    found = api.runs(project)  # looked at first: then the ledger knows what they cost
    account = api.account(project) if project is not None else None
    if as_json:
        write_json({"runs": found} | ({} if account is None else {"project": account}))
        return
    now = api.utc_now()
    click.echo(list_runs([(run, api.spent(run, now)) for run in found]), nl=False)
    if account is not None:
        click.echo(project_text(account), nl=False)


@click.command()
@click.argument("run_id", metavar="RUN")
@JSON_FLAG
def status(run_id: str, as_json: bool) -> None:
    """One run: its state, its last step, what it has cost. Of several under one cap: each."""
    from launcher import api, portfolios
    from launcher.display.portfolios import receipt_text
    from launcher.display.runs import status_text

    if not api.exists(run_id) and portfolios.exists(run_id):
        receipt = portfolios.looked_at(run_id)
        write_json(receipt) if as_json else click.echo(receipt_text(receipt), nl=False)
        return
    view = api.status(run_id)
    if as_json:
        write_json(view)
    else:
        click.echo(status_text(view), nl=False)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def logs(run_id: str, follow: bool) -> None:
    """What the job printed."""
    from launcher import api

    for line in api.logs(run_id, follow=follow):
        click.echo(line)


@click.command()
@click.argument("run_id", metavar="RUN")
def cancel(run_id: str) -> None:
    """End a run: its job writes checkpoint and result first. Its climb is over with it; of several
    under one cap, all that is under way, and nothing more is begun."""
    from launcher import api, climbing, portfolios
    from launcher.display.portfolios import receipt_text
    from results.receipt import dollars

    if not api.exists(run_id) and portfolios.exists(run_id):
        click.echo(receipt_text(portfolios.cancel(run_id)), nl=False)
        return
    run = climbing.cancel(run_id)
    cost = dollars(api.spent(run, api.utc_now()))
    click.echo(f"{run.run_id} {run.state}, {cost}; launch --run-id {run_id} would go on with it")


@click.command()
@click.option("--watch", is_flag=True, help="Go on, a round a minute, while anything may cost.")
def guard(watch: bool) -> None:
    """Hold every run's cap from here: fetch what has ended, end what it no longer pays for.

    For cron, or for any terminal: `* * * * * launch guard` holds the cap of every run whose
    launcher is gone, and goes on with climbs and with several jobs under one cap: `--yes`, or the
    question before them or before `--detach`, agreed to what they cost.
    """
    from launcher import api

    for line in api.guard(watch=watch):
        click.echo(line)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--store",
    type=store_address,
    metavar="DIR",
    help="Somewhere else than the run was started with.",
)
@transfers_shown()
def collect(run_id: str, store: str | None) -> None:
    """Bring an ended run's files home."""
    from launcher import api
    from launcher.errors import BadInput
    from launcher.paths import is_remote

    if store is not None and is_remote(store):
        raise BadInput(
            f"--store {store}: results are brought to a folder of this machine; name one"
        )
    click.echo(str(api.collect(run_id, Path(store) if store else None)))


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1)
@click.option("--compare", is_flag=True, help="Several runs side by side.")
@click.option("--all", "every", is_flag=True, help="All runs, with what each week cost.")
@click.option("--out", metavar="FILE", help="Write it there as one HTML file, and print none.")
def report(run_ids: tuple[str, ...], compare: bool, every: bool, out: str | None) -> None:
    """A run's report, or several side by side: Markdown, or HTML."""
    from launcher import reports

    page = reports.asked_for(run_ids, compare=compare, every=every, out=out)
    if out is None:
        click.echo(page, nl=False)
    else:
        say(f"report: {Path(out).absolute()}")


@click.command()
@click.argument("store", type=store_address, metavar="STORE")
@JSON_FLAG
def adopt(store: str, as_json: bool) -> None:
    """Take the runs of a store into this machine's ledger.

    STORE is a folder of runs or s3://bucket/prefix. Runs that the ledger knows stay as they are;
    a damaged one is refused by name. Exit code 4 where one was.
    """
    from launcher import api

    found = []
    for adoption in api.adopt(store):
        found.append(adoption)
        if not as_json:
            click.echo(f"{adoption.run_id}: {adoption.outcome}: {adoption.said}")
    if as_json:
        write_json({"runs": found})
    if any(adoption.outcome == "refused" for adoption in found):
        sys.exit(4)
