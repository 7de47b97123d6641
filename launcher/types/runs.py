"""A run: its attempts and their machines."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from jobs.spec import Record, Result
from launcher.types.offers import Terms
from launcher.types.plans import Plan

RunState = Literal["PENDING", "PROVISIONING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]


MachineState = Literal["REQUESTED", "UP", "ENDING", "GONE", "UNKNOWN"]


# Why a run ended as it did. A run that SUCCEEDED has a reason only when a gate failed.
Reason = Literal[
    "OUT_OF_MEMORY",
    "BUDGET_EXCEEDED",  # the deadline derived from --max-cost or --max-hours
    "PREEMPTED",
    "GATE_FAILED",
    "NO_CAPACITY",
    "STALLED",
    "LOST",  # ended without leaving a result: killed, or the machine is gone
    "SETUP_FAILED",
    "BAD_INPUT",
    "PILOT_FAILED",  # a few steps showed that the whole run would be hopeless
    "CANCELLED",
    "ERROR",
]


ENDED: tuple[RunState, ...] = ("SUCCEEDED", "FAILED", "CANCELLED")


class Attempt(Terms, frozen=True, kw_only=True):
    attempt: int
    started_at: str
    executor: str
    handle: str
    provider: str
    instance: str
    machine: MachineState
    gone_at: str | None
    candidate: int = 0  # which of the plan's it is
    account_microusd: int | None = None  # what the provisioner reckons that it cost
    price_as_of: str = ""  # ISO date of its price; "": as in the plan

    def seconds(self, now: datetime) -> float:
        """How long its machine was held: from the request until it was gone, or to `now`."""
        end = datetime.fromisoformat(self.gone_at) if self.gone_at else now
        return max(0.0, (end - datetime.fromisoformat(self.started_at)).total_seconds())


class Run(Struct, frozen=True, kw_only=True):
    run_id: str
    created_at: str
    store: str
    state: RunState
    reason: Reason | None
    message: str | None
    ended_at: str | None
    folder: str | None
    bucket: str  # s3://…, where it is kept as well; "": nowhere
    climb: str = ""  # the first run of its climb, which may be itself; "": from before there were
    rung: int = 0  # of that run's ladder
    attempts: tuple[Attempt, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class View(Struct, frozen=True, kw_only=True):
    """A run as it stands."""

    run: Run
    plan: Plan
    last: Record | None  # the newest line of its metrics
    result: Result | None
    log_tail: str
    spent_microusd: int
    folder: str  # where its files are now
    unseen: str = ""  # why its job could not be looked at
