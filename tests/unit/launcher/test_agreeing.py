"""Who is asked before a rung is paid, and what nobody is asked about."""

import io
import sys
from typing import Any

import msgspec
import pytest

from launcher import cli, climbing
from launcher.climbing import Next
from launcher.commands import through
from launcher.ladder import ladder
from launcher.running.climbs import Climb
from launcher.types import Attempt, Budget, Escalation, Ladder, Origin, Plan, Run, Step
from tests.unit.launcher.plans import cloud, dollars, local, planned
from tests.unit.launcher.test_ladder import JUDGED, replan

AT = "2026-11-21T00:00:00.000+00:00"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rented() -> Plan:
    return planned([cloud("RTX4090", 0.5)], Budget(max_cost_microusd=dollars(4)))


def next_one(made: Plan) -> Next:
    gone = Attempt(
        attempt=1, started_at=AT, executor="skypilot", handle="skypilot:x", provider="runpod",
        instance="x", microusd_per_hour=0, machine="GONE", gone_at=AT,
    )  # fmt: skip
    run = Run(
        run_id="run-1", created_at=AT, store="runs", state="SUCCEEDED", reason="GATE_FAILED",
        message=None, ended_at=AT, folder=None, bucket="", attempts=(gone,), climb="run-1",
    )  # fmt: skip
    whole = Plan(**{f: getattr(made, f) for f in made.__struct_fields__ if f != "ladder"},
                 ladder=Ladder(near_miss=0.9, rungs=()))  # fmt: skip
    climb = Climb(runs=(run,), plan=whole, origin=Origin(escalate="ask"))
    return Next(climb, Step(move="climb", why="exact_match failed: lora", rung=1), plan=made)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What became of the step: the run that began, or why none did."""
    found: list[Any] = []

    def stop(ready: Next, why: str | None = None) -> Step:
        found.append(why)
        return Step(move="stop", why=why or "")

    def go_on(ready: Next, say: object) -> str:
        found.append("run-1-2")
        return "run-1-2"

    monkeypatch.setattr(climbing, "next_of", lambda run_id, say, stood: next_one(rented()))
    monkeypatch.setattr(climbing, "stop", stop)
    monkeypatch.setattr(climbing, "go_on", go_on)
    return found


def test_at_a_terminal_the_rung_s_worst_case_is_asked_about(taken, monkeypatch, capsys) -> None:
    for answer in ("n", "y"):
        monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
        through.climb_on("run-1", yes=False)
    said = capsys.readouterr().err
    assert "$4.00 of the cap are left" in said
    assert "Spend up to $1.00 on runpod on the next rung?" in said
    assert taken == ["the next rung was not wanted", "run-1-2"]


def test_with_nobody_there_it_is_not_climbed_and_how_is_said(taken, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    through.climb_on("run-1", yes=False)
    (why,) = taken
    assert "it would cost up to $1.00 on runpod, and nobody is here to ask" in why
    assert "`launch --run-id run-1 --yes` climbs on" in why


def test_yes_has_agreed(taken, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert through.climb_on("run-1", yes=True) == "run-1-2"


def test_what_costs_nothing_is_not_asked_about(taken, monkeypatch) -> None:
    free = planned([local("RTX4090", 20)], Budget())
    monkeypatch.setattr(climbing, "next_of", lambda run_id, say, stood: next_one(free))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert through.climb_on("run-1", yes=False) == "run-1-2"


@pytest.mark.parametrize("gates", [True, False])
def test_who_leaves_is_asked_for_the_whole_cap(gates: bool, monkeypatch, capsys) -> None:
    """A job without gates, too: out of memory it is started again."""
    job = msgspec.structs.replace(JUDGED, gates=()) if not gates else JUDGED
    made = replan(job, Budget(max_cost_microusd=dollars(10)))
    made = msgspec.structs.replace(made, ladder=ladder(made, Escalation(), replan))
    for leaves in (False, True):
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        cli._confirm(made, climbing=leaves)
        said = capsys.readouterr().err
        whole = (
            "and up to $10.00 in all if gates fail, memory runs out or the machine is taken back?"
        )
        assert (whole in said) is leaves
