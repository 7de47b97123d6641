"""A portfolio: several jobs under one cap, each a climb of its own."""

from typing import Literal

from msgspec import Struct

from jobs.spec import GateResult
from launcher.types.climbs import Origin
from launcher.types.plans import Plan
from launcher.types.runs import Reason, RunState


class Member(Struct, frozen=True, kw_only=True):
    """One of its jobs."""

    run_id: str  # of its first run
    what: str  # what sets it apart: the recipe, and what the sweep sets
    plan: Plan  # as the portfolio was planned; made anew when its turn comes

    @property
    def worst_microusd(self) -> int:
        return self.plan.chosen.worst_microusd if self.plan.chosen is not None else 0


class Portfolio(Struct, frozen=True, kw_only=True):
    portfolio_id: str
    members: tuple[Member, ...]  # in the order in which they are begun
    cap_microusd: int | None  # over all of them; None: each has its own
    store: str  # a folder's whole path, or an s3:// address
    folder: str  # where it was launched: what a bucket keeps is brought to ./runs there
    sweep: bool = False  # the same job with settings that vary: to be compared
    at_once: int = 1  # members under way, those on this machine one after the other
    origin: Origin = Origin()  # of each member


class Skipped(Struct, frozen=True, kw_only=True):
    """Why a member was not begun, and is not going to be."""

    why: str
    cut_short: bool = False  # more money would have begun it


# waiting: not begun. open: begun, and not at its end. over: nothing more comes of it.
Phase = Literal["waiting", "open", "over", "skipped"]


class Standing(Struct, frozen=True, kw_only=True):
    """How far a member has come."""

    run_id: str  # its best run, or the last so far; the first one's where it is not begun
    what: str
    phase: Phase
    where: str = ""
    state: RunState | None = None
    reason: Reason | None = None
    gates: tuple[GateResult, ...] = ()
    # Of the trained model on the validation rows; where nothing took it there, on the test rows
    loss: float | None = None
    loss_on: Literal["validation", "test"] = "validation"
    runs: int = 0  # of its climb
    spent_microusd: int = 0  # by all of them
    planned_microusd: int = 0  # expected, of its first run
    said: str = ""  # what was decided in the end, or why it was not begun
    cut_short: bool = False  # more money would have bought another run of it


class PortfolioReceipt(Struct, frozen=True, kw_only=True):
    """One account of them all."""

    portfolio_id: str
    cap_microusd: int | None
    spent_microusd: int
    members: tuple[Standing, ...]
    best: str = ""  # of a sweep: its best run, by gates passed, then loss, then cost
    stopped: str = ""  # why no more members are begun, where somebody has decided that
