"""`launch`: flags → api → text. Only this and commands/ print or exit."""

import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from launcher import __version__, commands
from launcher.commands.group import DefaultCommand
from launcher.commands.options import (
    JSON_FLAG,
    Hub,
    flags,
    hub_of,
    job_flags,
    publish_flags,
    store_address,
)
from launcher.commands.output import Answer, ending_with, nobody_reads, say, write_json
from launcher.commands.several import begin_member, go_on_with, leave, train_several
from launcher.commands.through import (
    INTERRUPTED_EXIT,
    climb_on,
    finish,
    require_a_way_home,
    require_alone,
    see_through,
)
from launcher.errors import FOLDER_IS_GONE, BadInput, LaunchError, folder_is_gone
from launcher.nearest import nearest

if TYPE_CHECKING:
    from launcher.running.resuming import Resumption
    from launcher.types import Escalate, Plan


@click.group(cls=DefaultCommand)
@click.version_option(__version__, message="%(version)s")
def launch() -> None:
    """Train a LoRA or QLoRA adapter in the cheapest place that fits, under a total dollar cap.

    With no RECIPE: launch.yaml in this folder, else a sample job that needs no network, no GPU
    and no account. Shows the plan, asks where it costs money, trains, and brings the adapter, its
    metrics and a receipt to ./runs.
    """
    # A plan makes objects by the ten thousand and drops few: to look through them after each 700
    # takes a tenth of its CPU (by turns, 2026-11-22: 269 of 307 ms at best).
    gc.set_threshold(20_000)


@launch.command("train", hidden=True)
@click.argument("recipe", nargs=-1)
@job_flags
@click.option(
    "--store", type=store_address, metavar="DIR|s3://...", help="Where runs go.  [default: runs]"
)
@click.option(
    "--hub", "repository", metavar="ORG/NAME", help="Publish it there when its gates pass."
)
@publish_flags
@click.option("--dry-run", is_flag=True, help="Plan and show; start nothing.")
@click.option(
    "--show", type=click.Choice(["plan", "task", "spec"]), help="With --dry-run.  [default: plan]"
)
@JSON_FLAG
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@click.option("--detach", is_flag=True, help="Start and return.")
@click.option("--no-escalate", is_flag=True, help="Train once, whatever its gates say.")
@click.option(
    "--project", metavar="NAME[:USD]", help="Pay from its budget; USD: what it has in all."
)
@click.option(
    "--sweep", "sweeps", multiple=True, metavar="KEY=V,V", help="A run for each value; none climbs."
)
@click.option(
    "--at-once",
    type=click.IntRange(min=1, max=100),
    default=1,
    metavar="N",
    help="Of several jobs, so many under way.  [default: 1]",
)
@click.option("--run-id", metavar="ID", help="Name the run; go on with one that ended early.")
@click.option("--python", metavar="PATH", help="Interpreter of a training environment to use.")
@click.option(
    "--executor",
    type=click.Choice(["auto", "process", "docker", "podman"]),
    help="How a run on this machine is held.  [default: auto]",
)
@click.option("--debug", is_flag=True, help="Tracebacks with errors (any command).")
def train(
    recipe: tuple[str, ...],
    store: str | None,
    repository: str | None,
    public: bool,
    licence: str | None,
    dry_run: bool,
    show: str | None,
    as_json: bool,
    yes: bool,
    detach: bool,
    no_escalate: bool,
    project: str | None,
    sweeps: tuple[str, ...],
    at_once: int,
    run_id: str | None,
    python: str | None,
    executor: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Plan, show, confirm, submit, follow, collect, climb or finish, receipt."""
    from launcher import api, climbing
    from launcher.types import Origin

    asked, hub = flags(given), hub_of(repository, public, licence)
    several = len(recipe) > 1 or bool(sweeps)
    _require_shown(show, dry_run, as_json)
    if several:
        _require_only_what_several_have(hub, show)
    elif at_once > 1:
        raise BadInput("--at-once N: of several recipes, or of a --sweep; here is one job")
    if python is not None:
        from launcher.executors.environment import PYTHON_VARIABLE, named_python

        named_python(python)
        os.environ[PYTHON_VARIABLE] = python
    if executor is not None:
        from launcher.executors.here import EXECUTOR_VARIABLE

        os.environ[EXECUTOR_VARIABLE] = executor
    known = _known(run_id) if run_id is not None else None
    if run_id is not None and known is not None:
        if dry_run:
            raise BadInput(
                f"{known} {run_id} exists and keeps its plan: `launch status {run_id}` shows it; "
                "leave --run-id out to plan another job"
            )
        if recipe or asked.given or store or project or no_escalate or sweeps:
            raise BadInput(
                f"{known} {run_id} exists and keeps its spec and store; `launch --run-id {run_id}` "
                "alone goes on with it, another --run-id starts anew"
            )
        if known == "portfolio":
            leave(run_id, yes, as_json) if detach else go_on_with(run_id, as_json)
            return
        with climbing.at_it(run_id) as alone:
            require_alone(alone, run_id)
            if known == "member":
                begin_member(run_id, yes)
                see_through(run_id, as_json, detach, hub, yes)
            else:
                _go_on_with(run_id, as_json, detach, hub, yes)
        return
    paid_from = api.project(project) if project is not None else None
    if several:
        train_several(
            recipe,
            asked,
            sweeps,
            portfolio_id=run_id,
            store=store or api.DEFAULT_STORE,
            project=paid_from,
            at_once=at_once,
            escalates=not no_escalate,
            dry_run=dry_run,
            as_json=as_json,
            yes=yes,
            detach=detach,
            ask=_ask_to_spend,
        )
        return
    if licence is not None:
        api.require_licence(licence)
    made = api.plan(
        recipe[0] if recipe else None,
        asked,
        run_id=run_id,
        now=api.utc_now(),
        store=store or api.DEFAULT_STORE,
        at_most_microusd=api.project_left(paid_from) if paid_from is not None else None,
    )
    if dry_run:
        write_json(made) if as_json else click.echo(
            _shown(made, show or "plan", not no_escalate, store or api.DEFAULT_STORE), nl=False
        )
        api.require_choice(made)
        return
    click.echo(_shown(made, "plan", not no_escalate), err=as_json)
    made = api.ready(made, store or api.DEFAULT_STORE, repository, say)
    choice = api.require_choice(made)
    require_a_way_home(choice, detach, store or "")
    agreed = yes  # to what the rungs after it cost, too
    if choice.worst_microusd and not yes:
        _confirm(made, climbing=detach and not no_escalate)
        agreed = detach
    climbs = made.ladder is not None and not no_escalate
    escalate: Escalate = "no" if not climbs else "yes" if agreed else "ask"
    with climbing.at_it(made.run_id) as alone:
        require_alone(alone, made.run_id)
        try:
            api.submit(made, store or api.DEFAULT_STORE, say, Origin(escalate=escalate), paid_from)
        except KeyboardInterrupt:
            if choice.worst_microusd:
                say(f"a machine may be on its way and cost money: launch cancel {made.run_id}")
            raise
        see_through(made.run_id, as_json, detach, hub, yes)


def _go_on_with(run_id: str, as_json: bool, detach: bool, hub: Hub | None, yes: bool) -> None:
    """The run's climb: its last run while it is under way, the next one where it leads to another;
    else that run, which ended early."""
    from launcher import api, climbing

    if hub is not None:
        api.require_publishable(hub.repository, hub.licence)
    last = climbing.last_of(run_id)
    view = api.status(last)  # it may have ended unseen
    if not view.run.ended and not view.unseen:
        see_through(last, as_json, detach, hub, yes)
        return
    if climbing.waits(last):
        stood = climbing.decision(last)
        api.collect(last)  # what it measured is known to the next plan
        went_on = climb_on(last, yes, stood, detach)
        if isinstance(went_on, str):
            see_through(went_on, as_json, detach, hub, yes)
        else:
            finish(last, went_on, as_json, hub)
        return
    if detach and api.minutes_unfetched(last) is not None:
        raise BadInput(f"--detach: run {last} has no s3:// store; stay with it")
    ready = api.resumption(last, say)
    if ready.place.candidate.worst_microusd and not yes:
        _confirm_going_on(ready)
    api.resume(ready, say)
    see_through(last, as_json, detach, hub, yes)


def _known(run_id: str) -> str | None:
    """What the ledger has of that id, begun or not."""
    from launcher import api, portfolios

    if api.exists(run_id):
        return "run"
    if portfolios.exists(run_id):
        return "portfolio"
    return "member" if portfolios.is_member(run_id) else None


def _require_shown(show: str | None, dry_run: bool, as_json: bool) -> None:
    if show is not None and not dry_run:
        raise BadInput(f"--show {show} goes with --dry-run: a launch shows its plan")
    if show is not None and as_json:
        raise BadInput(f"--show {show} or --json: the one object has the whole plan")


def _require_only_what_several_have(hub: Hub | None, show: str | None) -> None:
    if hub is not None:
        raise BadInput("--hub names one repository: `launch publish RUN --hub …` for each of them")
    if show not in (None, "plan"):
        raise BadInput(f"--show {show}: of one recipe at a time, without --sweep")


def _shown(made: "Plan", show: str, climbs: bool, store: str = "") -> str:
    from launcher import api
    from launcher.display.plans import plan_text

    chosen = made.chosen
    if show == "plan" or chosen is None or chosen.spec is None:
        return plan_text(made, climbs)
    if show == "spec":
        from jobs.spec import encode

        return encode(chosen.spec).decode()
    return api.printed_task(made, store)


def _confirm(made: "Plan", climbing: bool) -> None:
    """`climbing`: nobody will be there to be asked about what comes after it."""
    from results.receipt import at_most

    chosen, cap = made.chosen, made.budget.max_cost_microusd
    assert chosen is not None, "asked only where something was chosen"
    what = f"up to {at_most(chosen.worst_microusd)} on {chosen.offer.provider}"
    if climbing and cap is not None and made.ladder is not None:
        what += (
            f", and up to {at_most(cap)} in all if gates fail, memory runs out or the machine is "
            "taken back"
        )
    _ask_to_spend(f"Spend {what}?")


def _confirm_going_on(ready: "Resumption") -> None:
    from results.receipt import at_most, dollars

    candidate, cap = ready.place.candidate, ready.plan.budget.max_cost_microusd
    worst, left = at_most(candidate.worst_microusd), ready.left_microusd
    of_it = ""
    if cap is not None and left is not None:
        say(f"{dollars(left)} of run {ready.run.run_id}'s cap of {at_most(cap)} are left")
        of_it = " of it"
    _ask_to_spend(f"Spend up to {worst}{of_it} on {candidate.offer.provider}?")


def _ask_to_spend(question: str) -> None:
    if not sys.stdin.isatty():
        raise BadInput("this would cost money and nobody is here to ask; add --yes to agree")
    if not click.confirm(question, default=False, err=True):
        raise click.Abort


for command, in_short in commands.ALL.items():
    command.short_help = in_short
    launch.add_command(command)


def main() -> None:
    """The console script: one place turns every error into a line and an exit code."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    answer = Answer(wanted="--json" in arguments)
    try:
        _run(arguments, answer, debug)
    except BrokenPipeError:  # a reader such as `head` has had enough
        nobody_reads()
        sys.exit(0)


def _run(arguments: list[str], answer: Answer, debug: bool) -> None:
    try:
        # Not launch.main(): click's own would turn a closed pipe into exit 1.
        with launch.make_context("launch", arguments, obj=answer) as context:
            launch.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except LaunchError as error:
        _fail(str(error), error.exit_code, answer, debug)
    except click.ClickException as error:
        _fail(_said(error), 2, answer, debug)
    except (click.Abort, KeyboardInterrupt):
        stopped = "stopped; `launch runs` shows what is going on"
        say(stopped)
        answer.fail(stopped, INTERRUPTED_EXIT)
        sys.exit(INTERRUPTED_EXIT)
    except BrokenPipeError:  # main's
        raise
    except Exception as error:
        if folder_is_gone(error):
            _fail(FOLDER_IS_GONE, BadInput.exit_code, answer, debug)
        what = f"{type(error).__name__}: {error}"
        _fail(f"{what}\nThis is a fault of the program; --debug shows where", 1, answer, debug)


def _said(error: click.ClickException) -> str:
    """Click's words, with the flags that are near by our measure: click's own takes --gpu for near
    to --bogus."""
    if isinstance(error, click.NoSuchOption):
        flags = {name.lstrip("-"): name for name in error.possibilities or ()}
        near = nearest(error.option_name.lstrip("-"), flags, 3)
        near = [flags[name] for name in near]
        error = click.NoSuchOption(error.option_name, possibilities=near, ctx=error.ctx)
    return error.format_message()


def _fail(message: str, exit_code: int, answer: Answer, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exc()
    legible = message.encode(errors="backslashreplace")
    with ending_with(exit_code):
        click.echo(b"error: " + legible, err=True)
        answer.fail(legible.decode(), exit_code)
    sys.exit(exit_code)
