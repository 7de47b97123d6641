"""A climb for people: its runs in order, and what was decided after each."""

from collections.abc import Sequence

from jobs.spec import GateResult
from launcher.display.tables import table
from launcher.types import Story
from results.receipt import dollars, ended_as
from results.report.page import Table

HEAD = ("rung", "run", "where", "ended", "gates", "spent", "decision")


def climb_text(story: Sequence[Story], best: str) -> str:
    """The table for a terminal, the run that counts with an arrow before it."""
    rows = [["→" if one.run_id == best else "", *cells(one)] for one in story]
    shown = table([["", *HEAD], *rows], right=(6,))
    return f"{shown}{_total(story)} in all; → is the run that counts\n"


def climb_table(story: Sequence[Story]) -> Table:
    caption = f"The runs of this job so far, {_total(story)} in all"
    return Table(caption=caption, head=HEAD, rows=tuple(cells(one) for one in story), right=(5,))


def _total(story: Sequence[Story]) -> str:
    return dollars(sum(one.spent_microusd for one in story))


def cells(one: Story) -> tuple[str, ...]:
    ended, gates = ended_as(one.state, one.reason), gates_text(one.gates)
    spent = dollars(one.spent_microusd)
    return (one.rung, one.run_id, one.where, ended, gates, spent, one.decision)


def gates_text(gates: Sequence[GateResult]) -> str:
    return ", ".join(_gate(gate) for gate in gates)


def _gate(gate: GateResult) -> str:
    value = "n/a" if gate.value is None else f"{gate.value:.3g}"
    return f"{gate.metric} {value}{'' if gate.passed else ' failed'}"
