"""Before a run: what can be had, what a job needs, what is missing here."""

import sys
from typing import Any

import click

from launcher.commands.options import JSON_FLAG, dollar_amount, flags, job_flags, store_address
from launcher.commands.output import say, write_json

ASSUMED_ROWS = 1000


@click.command()
@click.argument("recipe", required=False)
@job_flags
@click.option("--task", metavar="sft|regression", help="As in a recipe; regression: 8 scores.")
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="No data yet: N full rows.")
@click.option("--seq-len", type=int, metavar="TOKENS", help="As --set train.seq_len=TOKENS.")
@click.option("--micro-batch", type=int, metavar="ROWS", help="As --set train.micro_batch=ROWS.")
@click.option("--rank", type=int, metavar="R", help="As --set lora.r=R.")
@click.option("--compare", is_flag=True, help="QLoRA, LoRA and full side by side.")
@JSON_FLAG
def estimate(
    recipe: str | None,
    rows: int | None,
    seq_len: int | None,
    micro_batch: int | None,
    rank: int | None,
    compare: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Every term of memory, time and dollars for a job, and which offers hold it.

    Without data, 1,000 rows of full length are assumed. --gpu may name any known card, and mps: one
    that nobody offers is estimated without a price. Exit code 3: nothing fits.
    """
    from launcher import api
    from launcher.display.comparison import comparison_text
    from launcher.display.estimates import estimate_json, estimate_text
    from launcher.display.plans import offers_table
    from launcher.errors import BadInput
    from launcher.planning.refusals import answer_of

    given |= {"rows": rows or ASSUMED_ROWS, "rows_given": rows is not None}
    given |= {"seq_len": seq_len, "micro_batch": micro_batch, "rank": rank}
    if compare:
        if given["strategy"] is not None:
            raise BadInput("--compare lays every strategy side by side: leave --strategy away")
        plans = api.compare(recipe, flags(given), now=api.utc_now())
        if as_json:
            write_json({"plans": [estimate_json(plan) for plan in plans]})
        else:
            click.echo(comparison_text(plans), nl=False)
        api.require_fit(plans)
        return
    made = api.estimated(recipe, flags(given), now=api.utc_now())
    answer = answer_of(made)
    if as_json:
        write_json(estimate_json(made))
    elif answer is not None and answer.estimate is not None:
        click.echo(estimate_text(made, answer))
        click.echo(offers_table(made), nl=False)
    api.require_fit([made])


@click.command()
@click.option("--on", "providers", multiple=True, metavar="PROVIDER", help="Only there.")
@click.option("--gpu", metavar="NAME[:N]", help="Only this GPU.")
@click.option("--region", "regions", multiple=True, metavar="NAME", help="Only there; us-* works.")
@click.option("--spot", is_flag=True, help="Only what has a spot price.")
@click.option(
    "--max-hourly", type=dollar_amount, metavar="USD", help="Only up to this price of an hour."
)
@click.option("--all", "every_region", is_flag=True, help="A line for each region.")
@click.option("--dropped", is_flag=True, help="The rows of price lists that are not offered.")
@click.option("--refresh", is_flag=True, help="Ask SkyPilot anew, and show what moved.")
@JSON_FLAG
def offers(
    providers: tuple[str, ...],
    gpu: str | None,
    regions: tuple[str, ...],
    spot: bool,
    max_hourly: float | None,
    every_region: bool,
    dropped: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """This machine and the dated catalog: what can be had, and for how much.

    Prices come from the embedded snapshot and from SkyPilot's catalogs where they lie on this
    machine, the newer of the two; they are lists, no bill.
    """
    from launcher import api
    from launcher.catalog.enabled import last_check
    from launcher.display import catalog
    from launcher.types import MICROUSD

    if refresh:
        from launcher.catalog.refresh import refresh as ask

        answer = ask(say, api.utc_now())
        if as_json:
            write_json(answer)
        else:
            click.echo(catalog.refreshed_text(answer), nl=False)
        return
    today = api.utc_now().date().isoformat()
    found = api.offers(
        today,
        providers,
        gpu,
        regions=regions,
        spot=spot,
        max_hourly_microusd=None if max_hourly is None else round(max_hourly * MICROUSD),
    )
    if as_json and dropped:
        write_json({"dropped": found.dropped})
    elif as_json:
        rows = sum(entry.rows for entry in found.dropped)
        write_json({"offers": found.offers, "dropped_rows": rows, "enabled": last_check()})
    elif dropped:
        click.echo(catalog.dropped_text(found.dropped), nl=False)
    else:
        text = catalog.offers_text(
            found.offers, found.dropped, last_check(), today, every_region=every_region
        )
        click.echo(text, nl=False)


@click.command()
@click.argument("recipe", required=False)
@job_flags
@click.option("--store", type=store_address, metavar="DIR", help="Where the run would go.")
@click.option("--hub", metavar="ORG/NAME", help="Where it would be published.")
@JSON_FLAG
def doctor(
    recipe: str | None, store: str | None, hub: str | None, as_json: bool, **given: Any
) -> None:
    """What this machine has for planning and training, and how to get the rest.

    With a RECIPE or its flags: also all that can be checked before a paid second of that job.
    """
    from launcher import api
    from launcher.checking.doctor import examine
    from launcher.display.tables import table

    found = {"checks": examine(api.utc_now().date().isoformat())}
    asked = flags(given)
    if recipe or asked.given or store or hub:
        place = store or api.DEFAULT_STORE
        made = api.plan(recipe, asked, now=api.utc_now(), store=place)
        api.require_choice(made)
        found["job"] = api.checks(made, store, hub)
    if as_json:
        write_json(found)
    else:
        for checks in found.values():
            rows = [[c.name, c.state, c.found, c.next] for c in checks]
            click.echo(table([["check", "state", "found", "next"], *rows]), nl=False)
    if any(check.state == "failed" for checks in found.values() for check in checks):
        sys.exit(4)
