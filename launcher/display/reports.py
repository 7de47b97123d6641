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

# Of a candidate's cells, by their place there: what decides comes first.
_OFFER_COLUMNS = {
    "verdict": 0, "provider": 1, "instance": 2, "GPU": 3, "strategy": 4, "expected": 12,
    "at worst": 13, "why": 15, "time": 9, "time at worst": 10, "needs GiB": 6, "usable GiB": 7,
    "share": 8, "micro-batch": 5, "speed": 11, "price of": 14,
}  # fmt: skip
_NUMBERS = (5, 6, 8, 9, 10, 11, 12)
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
        blocks.append(_offer_table("Rejected", rejected, len(rejected) > _FOLDED_FROM))
    return (*blocks, *(Text(text=note) for note in offer_notes(plan)))


def _offer_table(caption: str, candidates: Sequence[Candidate], folded: bool = False) -> Table:
    every = [[c.verdict, *candidate_row(c)[1:]] for c in candidates]
    rows = tuple(tuple(cells[i] for i in _OFFER_COLUMNS.values()) for cells in every)
    head = tuple(_OFFER_COLUMNS)
    return Table(caption=caption, head=head, rows=rows, right=_NUMBERS, folded=folded)


def _ladder(ladder: Ladder) -> Table:
    rows = []
    for number, (_, *cells, refusal) in enumerate(rung_rows(ladder)):
        climbed = "chosen" if not number else refusal or "if need be"
        rows.append((*cells, climbed))
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
    count = f"{offer.count}× " if offer.count > 1 else ""
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
        count + offer.device.name,
        end.state if end is not None else "",
        ": ".join(filter(None, (reason, message))),
        time,
        cost,
        attempt.started_at[:16].replace("T", " "),
        attempt.machine,
    )
