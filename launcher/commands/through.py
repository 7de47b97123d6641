"""A run from its start to its end: followed, collected, published, accounted for."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from launcher.commands.options import Hub
from launcher.commands.output import ending_with, say, transfers_shown, write_json
from launcher.errors import GATE_FAILED_EXIT, BadInput, LaunchError, NothingFits, OutsideFailed
from launcher.paths import is_remote

if TYPE_CHECKING:
    from launcher.climbing import Next
    from launcher.events import Decided
    from launcher.types import Candidate, Step, View
    from results.hub import Published

INTERRUPTED_EXIT = 130
OVER_BUDGET_EXIT = NothingFits.exit_code
ENDED_BADLY_EXITS = {"BAD_INPUT": 2, "BUDGET_EXCEEDED": 3}  # else 1


@transfers_shown()
def see_through(
    run_id: str, as_json: bool, detach: bool, hub: Hub | None, yes: bool = False
) -> None:
    """Follow the run to its end and collect it; climb on while its gates fail and somebody agrees
    to what that costs; publish the best where that was asked and its gates passed, and print its
    receipt; exit as it did."""
    from launcher import api

    while True:
        if detach or not _follow(run_id):
            _leave(run_id, as_json, detach, hub)
            return
        api.collect(run_id)
        went_on = climb_on(run_id, yes)
        if not isinstance(went_on, str):
            break
        run_id = went_on
    finish(run_id, went_on, as_json, hub)


def _leave(run_id: str, as_json: bool, detach: bool, hub: Hub | None) -> None:
    say(f"{run_id} goes on by itself: launch logs {run_id} -f, launch collect {run_id}")
    _say_what_waits(run_id)
    _say_who_climbs(run_id)
    if hub is not None:
        say(f"to publish it then: {hub.command(run_id)}")
    if as_json:
        write_json({"run_id": run_id, "state": "RUNNING"})
    if not detach and not sys.stdin.isatty():  # interrupted with nobody to ask: not done
        sys.exit(INTERRUPTED_EXIT)


def _say_who_climbs(run_id: str) -> None:
    from launcher import climbing

    first = climbing.first_to_climb(run_id)
    if first is not None:
        say(
            f"if its gates fail, `launch guard` (cron, or --watch) climbs on, or `launch --run-id "
            f"{first}`"
        )


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
    from launcher.handing_on import hand_on

    while True:
        view = api.status(run_id)
        rate = view.run.attempts[-1].microusd_per_hour / 3600
        try:
            watch(api.follow(run_id, hand_on(run_id, say)), watcher(say), view.spent_microusd, rate)
            return True
        except KeyboardInterrupt:
            answer = _ask_what_now() if sys.stdin.isatty() else "d"
        if answer == "d":
            return False
        if answer == "c":
            with suppress(BadInput):  # it has ended meanwhile
                api.cancel(run_id)


def _ask_what_now() -> str:
    choices = click.Choice(["d", "c", "f"])
    question = "\n[d]etach, [c]ancel the run, or [f]ollow on?"
    try:
        return str(click.prompt(question, type=choices, default="d", err=True))
    except click.Abort:  # Ctrl-C again: let go, the run is not ours to end
        return "d"


def finish(last: str, over: "Step | None", as_json: bool, hub: Hub | None) -> None:
    """Say what a climb came to, by its best run; `over` is why it ended, None where it is a run
    that does not climb."""
    from jobs import layout
    from launcher import api, climbing
    from launcher.display.climbs import climb_text
    from launcher.display.runs import receipt_text
    from results.receipt import Receipt

    climbed = climbing.outcome(last) if over is not None else None
    run_id = climbed.best if climbed is not None else last
    if over is not None and not api.status(run_id).run.ended:  # what started it lost its answer
        raise OutsideFailed(f"{run_id} may be under way: {over.why}")
    home = api.collect(run_id)
    view = api.status(run_id)
    receipt = msgspec.json.decode((home / layout.RECEIPT).read_bytes(), type=Receipt)
    good = view.run.state == "SUCCEEDED" and view.run.reason is None
    published = _published(run_id, hub) if hub is not None and good else None
    with ending_with(_exit_code(view, over, published)):
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
            if climbed is not None and over is not None:
                answer["climb"] = {"ended": over, "runs": climbed.story}
            if hub is not None:
                answer["published"] = None if isinstance(published, LaunchError) else published
            write_json(answer)
        else:
            click.echo("\n" + receipt_text(receipt, view.result))
            if climbed is not None and len(climbed.story) > 1:
                click.echo(climb_text(climbed.story, run_id))
            click.echo(f"results: {home}")
        _say_how_it_ended(view, over, hub, home, published)


def _exit_code(
    view: "View", over: "Step | None", published: "Published | LaunchError | None"
) -> int:
    """Known before anything is printed: whoever reads may have had enough of it."""
    trained = view.run.state == "SUCCEEDED"
    if trained and view.run.reason != "GATE_FAILED":
        return published.exit_code if isinstance(published, LaunchError) else 0
    if over is not None and over.cut_short:
        return OVER_BUDGET_EXIT
    return GATE_FAILED_EXIT if trained else ENDED_BADLY_EXITS.get(view.run.reason or "", 1)


def _say_how_it_ended(
    view: "View",
    over: "Step | None",
    hub: Hub | None,
    home: Path,
    published: "Published | LaunchError | None",
) -> None:
    from jobs import layout

    run_id = view.run.run_id
    if view.run.state != "SUCCEEDED":
        say(f"error: run {run_id} {view.run.state}: {view.run.message}")
        if view.run.reason not in ("BAD_INPUT", "CANCELLED", "BUDGET_EXCEEDED", "PILOT_FAILED"):
            say(f"log: {home / layout.LOG}, its end:\n{view.log_tail}")
            say(f"next: launch --run-id {run_id} goes on from the last checkpoint")
        if over is not None and view.run.reason == "OUT_OF_MEMORY":
            say(f"tried no smaller: {over.why}")
    elif view.run.reason == "GATE_FAILED":
        say(f"trained, but {view.run.message}")
        if over is None:
            _say_the_next_rung(view)
        else:
            say(f"climbed no further: {over.why}")
        if hub is not None:
            say(f"not published; {hub.command(run_id)} --force would, and say so")
    elif hub is not None and published is not None:
        if isinstance(published, LaunchError):
            say(f"error: {published}")
            say(f"trained, but not published: {hub.command(run_id)}")
        else:
            say(published.line)


def require_alone(alone: bool, name: str) -> None:
    """Of two launchers, the second goes: what the lock of `at_it` is for."""
    if not alone:
        raise BadInput(f"another launcher sees {name} through; `launch status {name}` shows it")


def require_a_way_home(choice: "Candidate", detach: bool, store: str) -> None:
    """Results of a rented machine need somebody who fetches them, or a store that has them."""
    if choice.offer.executor != "skypilot" or is_remote(store):
        return
    if detach or choice.offer.spot:
        what = "--detach" if detach else "spot"
        raise BadInput(
            f"{what} on {choice.offer.provider}: the machine may go before anybody fetches its "
            f"results\n--store s3://BUCKET/PREFIX keeps them; or leave {what} away"
        )


def climb_on(
    run_id: str, yes: bool, stood: "Decided | None" = None, detach: bool = False
) -> "str | Step | None":
    """The run that goes on after this one, which is home, whatever `stood` says; or why none does;
    None where the run does not climb. Raises BadInput where `detach` would lose its results."""
    from launcher import climbing

    try:
        ready = climbing.next_of(run_id, say, stood)
    except LaunchError as error:
        return climbing.interrupted(run_id, error)
    if ready.goes_on and ready.candidate is not None and detach:
        require_a_way_home(ready.candidate, detach, ready.store)
    try:
        if not ready.climb.climbs:
            return None
        if not ready.goes_on:
            return climbing.stop(ready)
        say(f"{ready.climb.last.run_id}: {ready.step.why}")
        refusal = _not_agreed(ready) if ready.worst_microusd and not yes else ""
        return climbing.stop(ready, refusal) if refusal else _step(ready)
    except LaunchError as error:
        return climbing.interrupted(run_id, error)


def _step(ready: "Next") -> str:
    from launcher import climbing

    try:
        return climbing.go_on(ready, say)
    except KeyboardInterrupt:
        if ready.worst_microusd:
            first = ready.climb.first
            say(f"a machine may be on its way and cost money: launch cancel {first}")
        raise


def _not_agreed(ready: "Next") -> str:
    """Why the next rung is not paid; "" where it is."""
    from results.receipt import at_most, dollars

    what = f"up to {at_most(ready.worst_microusd)} on {ready.provider}"
    left = ready.left_microusd
    if not sys.stdin.isatty():
        again = f"`launch --run-id {ready.climb.first} --yes` climbs on"
        return f"it would cost {what}, and nobody is here to ask; {again}"
    if left is not None:
        say(f"{dollars(left)} of the cap are left")
    agreed = click.confirm(f"Spend {what} on the next rung?", default=False, err=True)
    return "" if agreed else "the next rung was not wanted"


def _published(run_id: str, hub: Hub) -> "Published | LaunchError":
    """What stands on the Hub now, or why not: the run is home all the same."""
    from launcher import api
    from launcher.running.publishing import PublishFlags

    try:
        how = PublishFlags(public=hub.public, licence=hub.licence)
        return api.publish(run_id, hub.repository, how)
    except LaunchError as error:
        return error


def _say_the_next_rung(view: "View") -> None:
    """What the plan has for this failure; nobody climbs it unasked."""
    from launcher.display.plans import rung_flags
    from launcher.ladder import after, without_value
    from results.receipt import at_most

    ladder, result = view.plan.ladder, view.result
    if ladder is None or result is None:
        return
    number = after([one.rung for one in ladder.rungs], 0, result.gates, ladder.near_miss)
    if names := ", ".join(without_value(result.gates)):
        say(f"next: rows that give {names} a value, which no rung does")
        return
    if number == len(ladder.rungs):
        say("next: more or better examples; the ladder has no rung for this")
        return
    next_one = ladder.rungs[number]
    flags, worst = rung_flags(next_one.rung), at_most(next_one.worst_microusd)
    if next_one.refusal:
        say(f"next would be `launch` as before with {flags}, but as planned: {next_one.refusal}")
    else:
        say(f"next: `launch` as before with {flags}; {worst} at worst as planned")
