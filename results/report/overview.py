"""All runs on one page, and what each week cost."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from results.receipt import MICROUSD, dollars
from results.report.page import Bars, BarSet, Block, Cell, Figure, Link, Page, Section, Table, Text

WEEKS_DRAWN = 12


class Spend(Struct, frozen=True, kw_only=True):
    """What an attempt has cost, and when it began."""

    at: str  # UTC, ISO 8601
    microusd: int


class Entry(Struct, frozen=True, kw_only=True):
    """One run; the newest first."""

    run_id: str
    state: str
    reason: str  # of that state; "": it says all
    started: str
    model: str
    strategy: str
    where: str
    gates: str
    spent: tuple[Spend, ...]  # an attempt each
    page: str = ""  # of its own report; "": it has none


def overview_page(runs: Sequence[Entry]) -> Page:
    total = sum(each.microusd for run in runs for each in run.spent)
    weeks = _weeks(runs)
    sections = [Section("Spend by week", _spend(weeks)), Section("Runs", (_table(runs),))]
    return Page(
        title="All runs",
        facts=(
            ("Runs", str(len(runs))),
            ("Succeeded", _succeeded(runs)),
            ("Spent in all", dollars(total)),
            *((("Newest week", dollars(max(weeks.items())[1][1])),) if weeks else ()),
        ),
        sections=tuple(sections) if runs else (Section("Runs", (Text(text="No runs yet."),)),),
    )


def _succeeded(runs: Sequence[Entry]) -> str:
    """Those that trained to the end, whatever their gates then said."""
    reasons = [run.reason for run in runs if run.state == "SUCCEEDED"]
    failed = reasons.count("GATE_FAILED")
    return f"{len(reasons)}" + (f", {failed} of them with a failed gate" if failed else "")


def _weeks(runs: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    """Monday's date → attempts and micro-dollars; weeks between that saw none are there too.

    An attempt counts whole in the week in which it began.
    """
    found: dict[str, tuple[int, int]] = {}
    for run in runs:
        for each in run.spent:
            day = datetime.fromisoformat(each.at).date()
            monday = (day - timedelta(days=day.weekday())).isoformat()
            count, cost = found.get(monday, (0, 0))
            found[monday] = count + 1, cost + each.microusd
    if not found:
        return {}
    day = datetime.fromisoformat(min(found)).date()
    while (monday := day.isoformat()) <= max(found):
        found.setdefault(monday, (0, 0))
        day += timedelta(days=7)
    return dict(sorted(found.items()))


def _spend(weeks: dict[str, tuple[int, int]]) -> tuple[Block, ...]:
    if not weeks:
        return (Text(text="No run was started yet."),)
    newest = list(weeks)[-WEEKS_DRAWN:]
    values = tuple(weeks[week][1] / MICROUSD for week in newest)
    rows = tuple(
        (week, str(weeks[week][0]), dollars(weeks[week][1])) for week in reversed(list(weeks))
    )
    told = "; ".join(f"week of {week}: {dollars(weeks[week][1])}" for week in reversed(newest))
    return (
        Figure(
            name="spend",
            title="Dollars by week",
            text=f"{told}.",
            note="An attempt counts whole in the week (from Monday, UTC) in which it began.",
            chart=Bars(labels=tuple(newest), sets=(BarSet(name="spent", values=values),), x="US $"),
            data=Table(
                caption="Spend by week",
                head=("week of", "attempts", "spent"),
                rows=rows,
                right=(1, 2),
            ),
        ),
    )


def _table(runs: Sequence[Entry]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        name: Cell = Link(run.run_id, run.page) if run.page else run.run_id
        spent = dollars(sum(each.microusd for each in run.spent))
        started = run.started[:16].replace("T", " ")
        state = f"{run.state} ({run.reason})" if run.reason else run.state
        rows.append((name, state, spent, run.gates, started, run.model, run.strategy, run.where))
    head = ("run", "state", "spent", "gates", "started, UTC", "model", "strategy", "where")
    return Table(caption="All runs, newest first", head=head, rows=tuple(rows), right=(2,))
