"""What only the launcher knows of a run, as its report shows it: offers, ladder, attempts."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from launcher.display.climbs import climb_table
from launcher.display.plans import candidate_row, offer_notes, rung_rows
from launcher.events import Event, StateChanged
from launcher.planning.costs import bill_microusd
from launcher.types import ENDED, Attempt, Candidate, Ladder, Plan, Run, Story
from results.receipt import dollars, duration
from results.report.page import Block, Table, Text
from results.report.run_page import Told
from results.report.words import short_device

_NUMBERS = ("expected", "at worst", "time", "time at worst")
_SAID_ONCE = ("strategy", "micro-batch", "speed", "price of")  # above, where all rows say the same
_REJECTED = "Rejected"
_FOLDED_FROM = 8  # rejected offers: more of them are shown when asked for
_RUNGS = ("rung", "after", "where", "expected", "at worst", "so far at worst", "climbed")


def told(
    plan: Plan, run: Run, events: Iterable[tuple[str, Event]], climb: Sequence[Story] = ()
) -> Told:
    """`climb`: the runs of the run's climb."""
    return Told(
        climb=climb_table(climb) if len(climb) > 1 else None,
        plan=_offers(plan),
        ladder=_ladder(plan.ladder) if plan.ladder and len(plan.ladder.rungs) > 1 else None,
        attempts=_attempts(plan, run, events),
    )


def _offers(plan: Plan) -> tuple[Block, ...]:
    """Those that hold every limit, the chosen one first; then those that do not."""
    rejected = [c for c in plan.candidates if c.verdict == "rejected"]
    fitting = [c for c in plan.candidates if c.verdict != "rejected"]
    blocks: list[Block] = [_offer_table("Chosen and possible", fitting)] if fitting else []
    if rejected:
        blocks.append(_offer_table(_REJECTED, rejected, len(rejected) > _FOLDED_FROM))
    return (*blocks, *(Text(text=note) for note in offer_notes(plan)))


def _offer_table(caption: str, candidates: Sequence[Candidate], folded: bool = False) -> Table:
    rows = [_offer_cells(candidate) for candidate in candidates]
    if caption == _REJECTED:
        rows = [{name: text for name, text in row.items() if name != "verdict"} for row in rows]
    same = {name: rows[0][name] for name in _SAID_ONCE if len({row[name] for row in rows}) == 1}
    head = tuple(name for name in rows[0] if name not in same)
    said = ", ".join(f"{name} {value}" for name, value in same.items() if value)
    caption += f", {'all ' if len(rows) > 1 else ''}with {said}" if said else ""
    return Table(
        caption=caption,
        head=head,
        rows=tuple(tuple(row[name] for name in head) for row in rows),
        right=tuple(head.index(name) for name in _NUMBERS),
        folded=folded,
    )


def _offer_cells(candidate: Candidate) -> dict[str, str]:
    """What decides comes first."""
    _, provider, instance, gpu, strategy, micro_batch, needs, usable, _, *rest = candidate_row(
        candidate
    )
    time, time_at_worst, speed, expected, worst, as_of, why = rest
    return {
        "verdict": candidate.verdict,
        "where": f"{provider} {instance}",
        "GPU": short_device(gpu),
        "expected": expected,
        "at worst": worst,
        "why": why,
        "time": time,
        "time at worst": time_at_worst,
        "memory, GiB": f"{needs} of {usable}" if needs else "",
        "strategy": strategy,
        "micro-batch": micro_batch,
        "speed": speed,
        "price of": as_of,
    }


def _ladder(ladder: Ladder) -> Table:
    rows = []
    for number, (_, *cells, refusal) in enumerate(rung_rows(ladder)):
        climbed = "chosen" if not number else refusal or "if need be"
        rung, after, where, *costs = cells
        rows.append((rung, after, short_device(where), *costs, climbed))
    caption = "What would be tried next, and what it costs"
    return Table(caption=caption, head=_RUNGS, rows=tuple(rows), right=(3, 4, 5))


def _attempts(plan: Plan, run: Run, events: Iterable[tuple[str, Event]]) -> Table:
    ends = {e.attempt: e for _, e in events if isinstance(e, StateChanged) and e.state in ENDED}
    head = (
        "attempt",
        "where",
        "GPU",
        "ended",
        "why",
        "time",
        "dollars",
        "asked for, UTC",
        "machine",
    )
    return Table(
        caption="From the request for a machine until it was gone",
        head=head,
        rows=tuple(_attempt(plan, a, ends.get(a.attempt)) for a in run.attempts),
        right=(5, 6),
    )


def _attempt(plan: Plan, attempt: Attempt, end: StateChanged | None) -> tuple[str, ...]:
    offer = plan.candidates[attempt.candidate].offer
    time = cost = "not over"
    if attempt.gone_at is not None:
        seconds = attempt.seconds(datetime.fromisoformat(attempt.gone_at))
        time = duration(seconds / 3600)
        cost = dollars(bill_microusd(attempt, seconds))
    reason = (end.reason or "") if end is not None else ""
    message = (end.message or "") if end is not None else ""
    return (
        str(attempt.attempt),
        f"{attempt.provider} {attempt.instance}",
        short_device(offer.device_name),
        end.state if end is not None else "",
        ": ".join(filter(None, (reason, message))),
        time,
        cost,
        attempt.started_at[:16].replace("T", " "),
        attempt.machine,
    )
