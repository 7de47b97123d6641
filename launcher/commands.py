"""The commands beside the main one: look at runs, end them, bring them home, ship them."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from launcher.options import JSON_FLAG, flags, job_flags


def write_json(value: Any) -> None:
    click.echo(msgspec.json.encode(value))


ASSUMED_ROWS = 1000


def say(line: str) -> None:
    click.echo(line, err=True)


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

    Without data, 1,000 rows of full length are assumed.
    """
    from launcher import api, display
    from launcher.comparison import comparison_text
    from launcher.errors import BadInput

    given |= {"rows": rows or ASSUMED_ROWS, "rows_given": rows is not None}
    named = {"train.seq_len": seq_len, "train.micro_batch": micro_batch, "lora.r": rank}
    given["sets"] += tuple(f"{key}={value}" for key, value in named.items() if value is not None)
    if compare:
        if given["strategy"] is not None:
            raise BadInput("--compare lays every strategy side by side: leave --strategy away")
        plans = api.compare(recipe, flags(given), now=api.utc_now())
        if as_json:
            write_json({"plans": plans})
        else:
            click.echo(comparison_text(plans), nl=False)
        return
    made = api.plan(recipe, flags(given), now=api.utc_now(), advise=False)
    judged = [c for c in made.candidates if c.estimate is not None]
    if as_json:
        write_json(made)
    elif judged:
        click.echo(display.estimate_text(made, judged[0]))
        click.echo(display.offers_table(made), nl=False)
    else:
        api.require_choice(made)


@click.command()
@click.option("--on", "providers", multiple=True, metavar="PROVIDER", help="Only there.")
@click.option("--gpu", metavar="NAME[:N]", help="Only this GPU.")
@click.option("--region", "regions", multiple=True, metavar="NAME", help="Only there; us-* works.")
@click.option("--spot", is_flag=True, help="Only what has a spot price.")
@click.option("--max-hourly", type=float, metavar="USD", help="Only up to this price of an hour.")
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
    from launcher import api, catalog_display
    from launcher.catalog.enabled import last_check
    from launcher.types import MICROUSD

    if refresh:
        from launcher.catalog.refresh import refresh as ask

        answer = ask(say, api.utc_now())
        if as_json:
            write_json(answer)
        else:
            click.echo(catalog_display.refreshed_text(answer), nl=False)
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
        click.echo(catalog_display.dropped_text(found.dropped), nl=False)
    else:
        text = catalog_display.offers_text(
            found.offers, found.dropped, last_check(), today, every_region=every_region
        )
        click.echo(text, nl=False)


@click.command()
@JSON_FLAG
def runs(as_json: bool) -> None:
    """All runs, newest first."""
    from launcher import api, display

    found = api.runs()
    if as_json:
        write_json({"runs": found})
    else:
        now = api.utc_now()
        click.echo(display.list_runs([(run, api.spent(run, now)) for run in found]), nl=False)


@click.command()
@click.argument("run_id", metavar="RUN")
@JSON_FLAG
def status(run_id: str, as_json: bool) -> None:
    """One run: its state, its last step, what it has cost."""
    from launcher import api, display

    view = api.status(run_id)
    if as_json:
        write_json(view)
    else:
        click.echo(display.status_text(view), nl=False)


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
    """End a run: its job writes checkpoint and result first."""
    from launcher import api
    from results.receipt import dollars

    run = api.cancel(run_id)
    cost = dollars(api.spent(run, api.utc_now()))
    click.echo(f"{run_id} {run.state}, {cost}; launch --run-id {run_id} would go on with it")


@click.command()
@click.option("--watch", is_flag=True, help="Go on, a round a minute, while anything may cost.")
def guard(watch: bool) -> None:
    """Hold every run's cap from here: fetch what has ended, end what it no longer pays for.

    For cron, or for any terminal: `* * * * * launch guard` holds the cap of every run whose
    launcher is gone.
    """
    from launcher import api

    for line in api.guard(watch=watch):
        click.echo(line)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--store", metavar="DIR", help="Somewhere else than the run was started with.")
def collect(run_id: str, store: str | None) -> None:
    """Bring an ended run's files home."""
    from launcher import api

    click.echo(str(api.collect(run_id, Path(store) if store else None)))


@click.command()
@click.argument("run_id", metavar="RUN")
def report(run_id: str) -> None:
    """The run's report, as Markdown."""
    from jobs import layout
    from launcher import api

    click.echo((api.collect(run_id) / layout.REPORT).read_text(), nl=False)


@click.command()
@click.argument("recipe", required=False)
@job_flags
@click.option("--store", metavar="DIR", help="Where the run would go.")
@click.option("--hub", metavar="ORG/NAME", help="Where it would be published.")
@JSON_FLAG
def doctor(
    recipe: str | None, store: str | None, hub: str | None, as_json: bool, **given: Any
) -> None:
    """What this machine has for planning and training, and how to get the rest.

    With a RECIPE or its flags: also all that can be checked before a paid second of that job.
    """
    from launcher import api, display
    from launcher.doctor import examine

    found = {"checks": examine(api.utc_now().date().isoformat())}
    asked = flags(given)
    if recipe or asked.given or store or hub:
        made = api.plan(recipe, asked, now=api.utc_now())
        api.require_choice(made)
        found["job"] = api.checks(made, store, hub)
    if as_json:
        write_json(found)
    else:
        for checks in found.values():
            rows = [[c.name, c.state, c.found, c.next] for c in checks]
            click.echo(display.table([["check", "state", "found", "next"], *rows]), nl=False)
    if any(check.state == "failed" for checks in found.values() for check in checks):
        sys.exit(4)


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--to",
    "targets",
    multiple=True,
    required=True,
    metavar="TARGET",
    help="merged, gguf:TYPE or ollama[:TYPE]; TYPE is f16, q8_0, q5_k_m, q4_k_m or q3_k_m.",
)
@click.option("--gate", "gates", multiple=True, metavar="METRIC>=X", help="Besides the run's own.")
@click.option("--rows", metavar="FILE", help="Measure on these, not the run's validation rows.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Ask N questions at most.")
@click.option("--name", help="Of the files, and of the model in Ollama.  [default: the run's id]")
@click.option("--out", metavar="DIR", help="Where it goes.  [default: RUN.export beside the run]")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@JSON_FLAG
def export(run: str, as_json: bool, **given: Any) -> None:
    """Merge, convert and quantise a run's model; ship the files that pass its gates.

    RUN is a run's id or a collected run's folder. Every GGUF file is measured itself, through
    llama.cpp: perplexity, the run's metrics, speed. One that fails a gate is kept as *.rejected.
    """
    from launcher import display
    from launcher.exporting import ExportFlags
    from launcher.exporting import export as ship

    code, result = ship(run, ExportFlags(**given), say)
    if as_json:
        write_json(result)
    else:
        click.echo(display.export_text(result), nl=False)
    for measured in result.rejected:
        say(f"not shipped: {measured.file} failed its gates")
    sys.exit(code)


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("file", metavar="FILE")
@click.option("--out", metavar="FILE", help="Where the scores go.  [default: stdout]")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Texts at once.")
@click.option("--device", metavar="cuda|mps|cpu", help="Elsewhere than the run was trained on.")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@JSON_FLAG
def predict(run: str, file: str, as_json: bool, **given: Any) -> None:
    """Score new texts with a trained student, as JSON lines; say how fast.

    RUN is a run's id or a collected run's folder, of task regression.
    """
    from launcher.errors import BadInput
    from launcher.predicting import PredictFlags
    from launcher.predicting import predict as score

    flags = PredictFlags(**given)
    if as_json and flags.out is None:
        raise BadInput("--json prints what was measured: give --out FILE for the scores")
    code, summary = score(run, file, flags, say)
    if as_json and summary is not None:
        write_json(summary)
    sys.exit(code)


ALL = (
    cancel,
    collect,
    doctor,
    estimate,
    export,
    guard,
    logs,
    offers,
    predict,
    report,
    runs,
    status,
)
