"""A run from its start to its end: followed, collected, published, accounted for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from launcher.commands.options import Hub
from launcher.commands.output import say, write_json
from launcher.errors import GATE_FAILED_EXIT, LaunchError

if TYPE_CHECKING:
    from launcher.types import View
    from results.hub import Published

INTERRUPTED_EXIT = 130
ENDED_BADLY_EXITS = {"BAD_INPUT": 2, "BUDGET_EXCEEDED": 3}  # else 1


def see_through(run_id: str, as_json: bool, detach: bool, hub: Hub | None) -> None:
    """Follow the run to its end, collect it, publish it where that was asked and its gates passed,
    and print the receipt; exit as the run did."""
    from launcher import api

    if detach or not _follow(run_id):
        say(f"{run_id} goes on by itself: launch logs {run_id} -f, launch collect {run_id}")
        _say_what_waits(run_id)
        if hub is not None:
            say(f"to publish it then: {hub.command(run_id)}")
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


def _finish(run_id: str, home: Path, as_json: bool, hub: Hub | None) -> None:
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
            say(f"not published; {hub.command(run_id)} --force would, and say so")
        sys.exit(GATE_FAILED_EXIT)
    if hub is not None and isinstance(published, LaunchError):
        say(f"error: {published}")
        say(f"trained, but not published: {hub.command(run_id)}")
        sys.exit(published.exit_code)
    if isinstance(published, Published):
        say(published.line)


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
    flags, worst = rung_flags(next_one.rung), dollars(next_one.worst_microusd)
    if next_one.refusal:
        say(f"next would be `launch` as before with {flags}, but as planned: {next_one.refusal}")
    else:
        say(f"next: `launch` as before with {flags}; {worst} at worst as planned")
