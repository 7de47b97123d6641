"""`launch`: flags → api → text. Only this and commands/ print or exit."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from launcher import __version__, commands
from launcher.commands.group import DefaultCommand
from launcher.commands.options import JSON_FLAG, flags, job_flags
from launcher.commands.output import say, write_json
from launcher.errors import GATE_FAILED_EXIT, BadInput, LaunchError

if TYPE_CHECKING:
    from launcher.running.runs import Resumption
    from launcher.types import Candidate, Plan, View
    from results.hub import Published

INTERRUPTED_EXIT = 130
ENDED_BADLY_EXITS = {"BAD_INPUT": 2, "BUDGET_EXCEEDED": 3}  # else 1


@click.group(cls=DefaultCommand)
@click.version_option(__version__, message="%(version)s")
def launch() -> None:
    """Train a LoRA or QLoRA adapter in the cheapest place that fits, under a total dollar cap.

    With no RECIPE: launch.yaml in this folder, else a sample job that needs no network, no GPU
    and no account. Shows the plan, asks where it costs money, trains, and brings the adapter, its
    metrics and a receipt to ./runs.
    """


@launch.command("train", hidden=True)
@click.argument("recipe", nargs=-1)
@job_flags
@click.option("--store", metavar="DIR|s3://...", help="Where runs go.  [default: runs]")
@click.option("--hub", metavar="ORG/NAME", help="Publish it there when its gates pass.")
@click.option("--dry-run", is_flag=True, help="Plan and show; start nothing.")
@click.option(
    "--show", type=click.Choice(["plan", "task", "spec"]), default="plan", help="What to show."
)
@JSON_FLAG
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@click.option("--detach", is_flag=True, help="Start and return.")
@click.option("--run-id", metavar="ID", help="Name the run; go on with one that ended early.")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@click.option("--debug", is_flag=True, help="Tracebacks with errors (any command).")
def train(
    recipe: tuple[str, ...],
    store: str | None,
    hub: str | None,
    dry_run: bool,
    show: str,
    as_json: bool,
    yes: bool,
    detach: bool,
    run_id: str | None,
    python: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Plan, show, confirm, submit, follow, collect, receipt."""
    from launcher import api

    asked = flags(given)
    _refuse_what_is_not_there_yet(recipe)
    if python is not None:
        from launcher.executors.environment import PYTHON_VARIABLE

        os.environ[PYTHON_VARIABLE] = python
    if run_id is not None and not dry_run and api.exists(run_id):
        if recipe or asked.given or store:
            raise BadInput(
                f"run {run_id} exists and keeps its spec and store; `launch --run-id {run_id}` "
                "alone goes on with it, another --run-id starts anew"
            )
        if detach and api.minutes_unfetched(run_id) is not None:
            raise BadInput(f"--detach: run {run_id} has no s3:// store; stay with it")
        ready = api.resumption(run_id, say)
        if ready.place.candidate.worst_microusd and not yes:
            _confirm_going_on(ready)
        api.resume(ready, say)
        _see_through(run_id, as_json, detach, hub)
        return
    made = api.plan(
        recipe[0] if recipe else None,
        asked,
        run_id=run_id,
        now=api.utc_now(),
        store=store or api.DEFAULT_STORE,
    )
    if dry_run:
        write_json(made) if as_json else click.echo(_shown(made, show), nl=False)
        api.require_choice(made)
        return
    click.echo(_shown(made, show), err=as_json)
    made = api.ready(made, store or api.DEFAULT_STORE, hub, say)
    choice = api.require_choice(made)
    _require_a_way_home(choice, detach, store or "")
    if choice.worst_microusd and not yes:
        _confirm(made)
    try:
        api.submit(made, store or api.DEFAULT_STORE, say)
    except KeyboardInterrupt:
        if choice.worst_microusd:
            say(f"a machine may be on its way and cost money: launch cancel {made.run_id}")
        raise
    _see_through(made.run_id, as_json, detach, hub)


def _refuse_what_is_not_there_yet(recipe: tuple[str, ...]) -> None:
    if len(recipe) > 1:
        raise BadInput("one recipe at a time: several under one cap are not in this version")


def _require_a_way_home(choice: "Candidate", detach: bool, store: str) -> None:
    """Results of a rented machine need somebody who fetches them, or a store that has them."""
    if choice.offer.executor != "skypilot" or store.startswith("s3://"):
        return
    if detach or choice.offer.spot:
        what = "--detach" if detach else "spot"
        raise BadInput(
            f"{what} on {choice.offer.provider}: the machine may go before anybody fetches its "
            f"results\n--store s3://BUCKET/PREFIX keeps them; or leave {what} away"
        )


def _shown(made: "Plan", show: str) -> str:
    from launcher import render
    from launcher.display.plans import plan_text

    chosen = made.chosen
    if show == "plan" or chosen is None or chosen.spec is None:
        return plan_text(made)
    if show == "spec":
        from jobs.spec import encode

        return encode(chosen.spec).decode()
    return render.task(made, chosen)


def _confirm(made: "Plan") -> None:
    from results.receipt import dollars

    chosen = made.chosen
    assert chosen is not None, "asked only where something was chosen"
    _ask_to_spend(f"Spend up to {dollars(chosen.worst_microusd)} on {chosen.offer.provider}?")


def _confirm_going_on(ready: "Resumption") -> None:
    from results.receipt import dollars

    candidate, cap = ready.place.candidate, ready.plan.budget.max_cost_microusd
    worst, left = dollars(candidate.worst_microusd), ready.left_microusd
    of_it = ""
    if cap is not None and left is not None:
        say(f"{dollars(left)} of run {ready.run.run_id}'s cap of {dollars(cap)} are left")
        of_it = " of it"
    _ask_to_spend(f"Spend up to {worst}{of_it} on {candidate.offer.provider}?")


def _ask_to_spend(question: str) -> None:
    if not sys.stdin.isatty():
        raise BadInput("this would cost money and nobody is here to ask; add --yes to agree")
    if not click.confirm(question, default=False, err=True):
        raise click.Abort


def _see_through(run_id: str, as_json: bool, detach: bool, hub: str | None) -> None:
    """Follow the run to its end, collect it, publish it where that was asked and its gates passed,
    and print the receipt; exit as the run did."""
    from launcher import api

    if detach or not _follow(run_id):
        say(f"{run_id} goes on by itself: launch logs {run_id} -f, launch collect {run_id}")
        _say_what_waits(run_id)
        if hub is not None:
            say(f"to publish it then: {_publishing(run_id, hub)}")
        if as_json:
            write_json({"run_id": run_id, "state": "RUNNING"})
        if not detach and not sys.stdin.isatty():  # interrupted with nobody to ask: not done
            sys.exit(INTERRUPTED_EXIT)
        return
    home = api.collect(run_id)
    _finish(run_id, home, as_json, hub)


def _say_what_waits(run_id: str) -> None:
    """A rented machine without a store holds the only results there are."""
    from launcher import api

    minutes = api.minutes_unfetched(run_id)
    if minutes is not None:
        say(
            f"its machine waits {minutes} min after the job for `launch collect`, then goes with "
            "its results; `launch guard --watch` fetches them and holds the cap"
        )


def _follow(run_id: str) -> bool:
    """Whether the run was followed to its end; Ctrl-C asks whether to detach or cancel."""
    from launcher import api
    from launcher.display.progress import watch, watcher

    while True:
        view = api.status(run_id)
        rate = view.run.attempts[-1].microusd_per_hour / 3600
        try:
            watch(api.follow(run_id), watcher(say), view.spent_microusd, rate)
            return True
        except KeyboardInterrupt:
            answer = _ask_what_now() if sys.stdin.isatty() else "d"
        if answer == "d":
            return False
        if answer == "c" and not api.status(run_id).run.ended:
            api.cancel(run_id)


def _ask_what_now() -> str:
    choices = click.Choice(["d", "c", "f"])
    question = "\n[d]etach, [c]ancel the run, or [f]ollow on?"
    try:
        return str(click.prompt(question, type=choices, default="d", err=True))
    except click.Abort:  # Ctrl-C again: let go, the run is not ours to end
        return "d"


def _finish(run_id: str, home: Path, as_json: bool, hub: str | None) -> None:
    from jobs import layout
    from launcher import api
    from launcher.display.runs import receipt_text
    from results.hub import Published
    from results.receipt import Receipt

    view = api.status(run_id)
    receipt = msgspec.json.decode((home / layout.RECEIPT).read_bytes(), type=Receipt)
    good = view.run.state == "SUCCEEDED" and view.run.reason is None
    published = _published(run_id, hub) if hub is not None and good else None
    if as_json:
        answer: dict[str, object] = {
            "run_id": run_id,
            "state": view.run.state,
            "reason": view.run.reason,
            "message": view.run.message,
            "folder": str(home),
            "result": view.result,
            "receipt": receipt,
        }
        if hub is not None:
            answer["published"] = None if isinstance(published, LaunchError) else published
        write_json(answer)
    else:
        click.echo("\n" + receipt_text(receipt, view.result))
        click.echo(f"results: {home}")
    if view.run.state != "SUCCEEDED":
        say(f"error: run {run_id} {view.run.state}: {view.run.message}")
        if view.run.reason not in ("BAD_INPUT", "CANCELLED", "BUDGET_EXCEEDED", "PILOT_FAILED"):
            say(f"log: {home / layout.LOG}, its end:\n{view.log_tail}")
            say(f"next: launch --run-id {run_id} goes on from the last checkpoint")
        sys.exit(ENDED_BADLY_EXITS.get(view.run.reason or "", 1))
    if view.run.reason == "GATE_FAILED":
        say(f"trained, but {view.run.message}")
        _say_the_next_rung(view)
        if hub is not None:
            say(f"not published; {_publishing(run_id, hub)} --force would, and say so")
        sys.exit(GATE_FAILED_EXIT)
    if hub is not None and isinstance(published, LaunchError):
        say(f"error: {published}")
        say(f"trained, but not published: {_publishing(run_id, hub)}")
        sys.exit(published.exit_code)
    if isinstance(published, Published):
        say(published.line)


def _publishing(run_id: str, hub: str) -> str:
    """What publishes the run from any terminal."""
    return f"launch publish {run_id} --hub {hub}"


def _published(run_id: str, hub: str) -> "Published | LaunchError":
    """What stands on the Hub now, or why not: the run is home all the same."""
    from launcher import api

    try:
        return api.publish(run_id, hub)
    except LaunchError as error:
        return error


def _say_the_next_rung(view: "View") -> None:
    """What the plan has for this failure; nobody climbs it unasked."""
    from launcher.display.plans import rung_flags
    from launcher.ladder import after
    from results.receipt import dollars

    ladder, result = view.plan.ladder, view.result
    if ladder is None or result is None:
        return
    number = after([one.rung for one in ladder.rungs], 0, result.gates, ladder.near_miss)
    if number == len(ladder.rungs):
        say("next: more or better examples; the ladder has no rung for this")
        return
    next_one = ladder.rungs[number]
    worst = dollars(next_one.worst_microusd)
    say(f"next: `launch` as before with {rung_flags(next_one.rung)}; {worst} at worst as planned")


for command in commands.ALL:
    launch.add_command(command)


def main() -> None:
    """The console script: one place turns every error into a line and an exit code."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        # Not launch.main(): click's own would turn a closed pipe into exit 1.
        with launch.make_context("launch", arguments) as context:
            launch.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except LaunchError as error:
        _fail(str(error), error.exit_code, debug)
    except click.ClickException as error:
        _fail(error.format_message(), 2, debug)
    except (click.Abort, KeyboardInterrupt):
        say("stopped; `launch runs` shows what is going on")
        sys.exit(INTERRUPTED_EXIT)
    except BrokenPipeError:  # a reader such as `head` has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        _fail(f"{what}\nThis is a fault of the program; --debug shows where", 1, debug)


def _fail(message: str, exit_code: int, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {message}".encode(errors="backslashreplace"), err=True)
    sys.exit(exit_code)
