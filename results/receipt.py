"""Estimate against actual: what a run was planned to need and cost, and what it did."""

import math
from typing import Literal

from msgspec import Struct

MICROUSD = 1_000_000


class Line(Struct, frozen=True, kw_only=True):
    """One figure. `actual` is None where nothing measured it."""

    name: str
    unit: Literal["bytes", "hours", "microusd", "tokens_per_second"]
    planned: float
    planned_upper: float | None
    actual: float | None
    note: str = ""

    @property
    def off_by(self) -> float | None:
        """(planned - actual) / actual: positive is an over-estimate."""
        if not self.actual:
            return None
        return (self.planned - self.actual) / self.actual


def ended_as(state: str, reason: str | None) -> str:
    """A state with its reason, where that says more."""
    return f"{state} ({reason})" if reason and reason != state else state


class Phase(Struct, frozen=True, kw_only=True):
    """A stretch of an attempt, and what its machine cost meanwhile."""

    name: str
    seconds: float
    microusd: int


class Receipt(Struct, frozen=True, kw_only=True):
    """The account of one run, all attempts included."""

    run_id: str
    state: str
    reason: str | None
    provider: str
    instance: str
    attempts: int
    max_cost_microusd: int | None
    spent_microusd: int
    lines: tuple[Line, ...]
    phases: tuple[Phase, ...] = ()  # of the latest attempt, from its request to its end
    accounted_microusd: int | None = None  # by the provisioner: duration × list price, not a bill
    # What it is the account of: SHA-256 of plan.json and lineage.json beside it. "": not known
    plan_sha256: str = ""
    lineage_sha256: str = ""


def spend_microusd(microusd_per_hour: int, seconds: float) -> int:
    """ceil(rate × seconds / 3600): a started micro-dollar is a whole one."""
    return -int(-microusd_per_hour * seconds // 3600)


def dollars(microusd: int) -> str:
    """What was spent or is expected: the nearest cent, or as many digits as a smaller sum needs."""
    usd = microusd / MICROUSD
    if usd >= 0.005 or microusd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.6f}" if 0 < microusd < 100 else f"${usd:.4f}"


def at_most(microusd: int) -> str:
    """A cap, or what something may cost: cents, rounded up so that a sum is never hidden."""
    return f"${-(-microusd // (MICROUSD // 100)) / 100:,.2f}"


def counted(count: int, one: str) -> str:
    """1 row, 2 rows."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def figure(value: float | None, unit: str, upper: bool = False) -> str:
    """A figure with its unit, for people; `upper`: it is a bound."""
    if value is None:
        return "not measured"
    if unit == "bytes":
        return f"{value / 1024**3:.2f} GiB"
    if unit == "microusd":
        return at_most(math.ceil(value)) if upper else dollars(round(value))
    if unit == "hours":
        return duration(value)
    return f"{value:,.0f} tokens/s"


def duration(hours: float) -> str:
    """Two leading units: 41 s, 12 m 30 s, 3 h 05 m."""
    seconds = hours * 3600
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} m {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} m"
