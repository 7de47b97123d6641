"""A climb for people: its runs in order, and what was decided after each."""

from collections.abc import Sequence

from launcher.display.tables import table
from launcher.types import Story
from results.receipt import dollars
from results.report.page import Table

HEAD = ("rung", "run", "where", "ended", "gates", "spent", "decision")


def climb_text(story: Sequence[Story], best: str) -> str:
    """The table for a terminal, the run that counts with an arrow before it."""
    rows = [["→" if one.run_id == best else "", *cells(one)] for one in story]
    return table([["", *HEAD], *rows], right=(6,))


def climb_table(story: Sequence[Story]) -> Table:
    total = dollars(sum(one.spent_microusd for one in story))
    caption = f"The climb so far: {total} of one cap"
    return Table(caption=caption, head=HEAD, rows=tuple(cells(one) for one in story), right=(5,))


def cells(one: Story) -> tuple[str, ...]:
    reason = f" ({one.reason})" if one.reason else ""
    gates = ", ".join(
        f"{g.metric} {'n/a' if g.value is None else f'{g.value:.3g}'}{'' if g.passed else ' failed'}"
        for g in one.gates
    )
    spent = dollars(one.spent_microusd)
    return (one.rung, one.run_id, one.where, one.state + reason, gates, spent, one.decision)
