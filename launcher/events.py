"""The ledger's events: what is written, once and for good, when something is done."""

from msgspec import Struct

from launcher.types import (
    MachineState,
    Measurement,
    Move,
    Origin,
    Plan,
    Portfolio,
    Reason,
    RunState,
    Skipped,
    Terms,
)


class RunCreated(Struct, frozen=True, kw_only=True, tag_field="kind", tag="run_created"):
    plan: Plan
    store: str  # the folder on this machine
    bucket: str = ""  # the s3:// address beside it, if any
    origin: Origin = Origin()


class BudgetSet(Struct, frozen=True, kw_only=True, tag_field="kind", tag="budget_set"):
    """The run that it stands with made the budget, or gave it another cap."""

    name: str
    cap_microusd: int


class Decided(Struct, frozen=True, kw_only=True, tag_field="kind", tag="decided"):
    """What comes of a run that ended: the newest of them holds."""

    move: Move
    why: str
    cut_short: bool = False  # stop: more money would have bought another rung


class AttemptStarted(Terms, frozen=True, kw_only=True, tag_field="kind", tag="attempt_started"):
    """Written before the machine is asked for: from here on it may bill, on these terms."""

    attempt: int
    executor: str
    handle: str
    provider: str
    instance: str
    candidate: int = 0  # which of the plan's it is
    price_as_of: str = ""  # ISO date of the price that it is started at


class MachineChanged(Struct, frozen=True, kw_only=True, tag_field="kind", tag="machine_changed"):
    attempt: int
    state: MachineState
    at: str | None = None  # when it did, where that is earlier than its being noticed
    account_microusd: int | None = None  # GONE: what the provisioner reckons, where it does
    egress_microusd: int | None = None  # GONE: of what left it, where that is less than expected


class StateChanged(Struct, frozen=True, kw_only=True, tag_field="kind", tag="state_changed"):
    attempt: int
    state: RunState
    reason: Reason | None = None
    message: str | None = None


class PassedOver(Struct, frozen=True, kw_only=True, tag_field="kind", tag="passed_over"):
    """An offer that was to take a failed attempt's place and was not asked for."""

    candidate: int  # which of the plan's it is
    message: str  # why, with the numbers


class Collected(Struct, frozen=True, kw_only=True, tag_field="kind", tag="collected"):
    folder: str


class Measured(Struct, frozen=True, kw_only=True, tag_field="kind", tag="measured"):
    """Once an attempt, when it is collected."""

    attempt: int
    measurement: Measurement


class Adopted(Struct, frozen=True, kw_only=True, tag_field="kind", tag="adopted"):
    """What comes before it was written by another ledger, whose machines this one did not see."""

    store: str
    attempts: int  # that it had by then


class PortfolioBegun(Struct, frozen=True, kw_only=True, tag_field="kind", tag="portfolio_begun"):
    """This and the next two stand under the portfolio's id; no run has it."""

    portfolio: Portfolio


class MemberSkipped(Struct, frozen=True, kw_only=True, tag_field="kind", tag="member_skipped"):
    """A member is not begun: its first run's id, and why."""

    run_id: str
    skipped: Skipped


class PortfolioEnded(Struct, frozen=True, kw_only=True, tag_field="kind", tag="portfolio_ended"):
    """No more members are begun; `why` where somebody has stopped it."""

    why: str = ""


Event = (
    RunCreated
    | BudgetSet
    | Decided
    | AttemptStarted
    | MachineChanged
    | StateChanged
    | PassedOver
    | Collected
    | Measured
    | Adopted
    | PortfolioBegun
    | MemberSkipped
    | PortfolioEnded
)
