"""Pure: where an attempt's time and dollars went, from the request of its machine to its end."""

from collections.abc import Sequence
from datetime import datetime

from jobs.spec import PhaseRecord, Record, Result
from launcher.events import Event, MachineChanged
from launcher.planning.costs import bill_microusd
from launcher.types import Attempt
from results.receipt import Phase, spend_microusd


def phases(
    attempt: Attempt,
    events: Sequence[tuple[str, Event]],
    seen: Sequence[Record],
    result: Result | None,
) -> tuple[Phase, ...]:
    """The phases of a rented machine that is gone, in their order.

    `events` are the ledger's of the run, with their times. Before and after the job they are
    measured from here, by what the ledger noted and when; the job's own by the job. What the
    provider bills beyond the seconds (whole units, egress) stands with the last.
    """
    handed_over = _first(events, attempt, "UP")
    own = (r.at for r in seen if isinstance(r, PhaseRecord) and r.at >= attempt.started_at)
    began = next(own, None)  # records of an earlier attempt may stand before
    if attempt.gone_at is None or handed_over is None or began is None:
        return ()
    inside = dict(result.seconds_by_phase) if result is not None else {}
    gone = datetime.fromisoformat(attempt.gone_at)
    ended = datetime.fromisoformat(began).timestamp() + sum(inside.values())
    stretches = {
        "provisioning": _seconds(attempt.started_at, handed_over),
        "set-up": _seconds(handed_over, began),
        **inside,
    }
    rate = attempt.microusd_per_hour
    found = [
        Phase(name=name, seconds=max(0.0, s), microusd=spend_microusd(rate, max(0.0, s)))
        for name, s in stretches.items()
    ]
    rest = bill_microusd(attempt, attempt.seconds(gone)) - sum(p.microusd for p in found)
    last = max(0.0, gone.timestamp() - ended)
    return (*found, Phase(name="home and teardown", seconds=last, microusd=max(0, rest)))


def _first(events: Sequence[tuple[str, Event]], attempt: Attempt, state: str) -> str | None:
    found = (
        at
        for at, event in events
        if isinstance(event, MachineChanged)
        and (event.attempt, event.state) == (attempt.attempt, state)
    )
    return next(found, None)


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
