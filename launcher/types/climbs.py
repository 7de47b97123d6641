"""A climb: the runs of one job, each on a rung of its ladder, under one budget."""

from typing import Any, Literal

from msgspec import Struct

from jobs.spec import GateResult
from launcher.types.runs import Reason, RunState

# What is done about failed gates: nothing, the next rung once somebody has agreed to its cost, or
# the next rung.
Escalate = Literal["no", "ask", "yes"]

# done: a rung passed. climb: another rung. smaller: the same rung in less memory, or in more of it.
# again: the same run goes on. stop: nothing of this.
Move = Literal["done", "climb", "smaller", "again", "stop"]


class Origin(Struct, frozen=True, kw_only=True):
    """Where a run comes from, and what it draws on beside its own cap."""

    climb: str = ""  # the climb's first run; "": this one is it
    rung: int = 0
    escalate: Escalate = "no"
    budgets: tuple[str, ...] = ()  # their names in the ledger
    portfolio: str = ""  # that the climb is a member of
    # What --executor and --python asked for; "": nothing
    executor: str = ""
    python: str = ""


class Tried(Struct, frozen=True, kw_only=True):
    """One run of a climb, when it is over."""

    run_id: str
    rung: int
    state: RunState
    reason: Reason | None
    gates: tuple[GateResult, ...] = ()
    spent_microusd: int = 0
    starts: int = 1  # its attempts
    # What it was trained with: rows at once, activations checkpointed, all memory of one device.
    micro_batch: int = 1
    checkpointing: bool = True
    device_bytes: int = 0


class Step(Struct, frozen=True, kw_only=True):
    """What comes after the last run of a climb, and why, in one line."""

    move: Move
    why: str
    rung: int = 0  # of climb, smaller and again
    set: dict[str, Any] = {}  # smaller: keys of the recipe that change besides the rung's
    least_bytes: int = 0  # smaller: of memory on one device
    cut_short: bool = False  # stop: more money would have bought another rung


class Refused(Struct, frozen=True, kw_only=True):
    """A step that was planned at the prices of now and cannot be taken."""

    step: Step
    why: str
    needs_microusd: int | None = None  # what it would take; None: no money helps, or unknown
    cut_short: bool = False  # the cap, or a project's, does not hold it at the price of now


class Story(Struct, frozen=True, kw_only=True):
    """One run of a climb as people are told of it."""

    run_id: str
    rung: str
    where: str
    state: RunState
    reason: Reason | None
    gates: tuple[GateResult, ...]
    spent_microusd: int
    decision: str  # what came of it; "": nothing yet


class Account(Struct, frozen=True, kw_only=True):
    """A project's budget as it stands."""

    project: str
    cap_microusd: int
    spent_microusd: int
    held_microusd: int  # what runs under way may still cost
    left_microusd: int
