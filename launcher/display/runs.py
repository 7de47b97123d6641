"""Runs for people: lists, state, progress, receipt."""

from collections import Counter
from collections.abc import Sequence

from jobs.spec import PhaseRecord, Result, StepRecord
from launcher.display.tables import table
from launcher.types import Account, Run, View
from results.receipt import Receipt, at_most, dollars, duration, ended_as
from results.report.words import (
    crossing_note,
    fit_line,
    gate_line,
    judged_on,
    phase_rows,
    pilot_line,
    quality_rows,
    receipt_rows,
    spent_line,
)


def list_runs(runs: Sequence[tuple[Run, int]]) -> str:
    """Runs with what each has cost so far, in micro-dollars."""
    climbs = Counter(run.climb for run, _ in runs if run.climb)
    rows = [["run", "rung", "state", "started", "where", "spent", "results"]]
    for run, cost in runs:
        rung = f"{run.climb}, rung {run.rung + 1}" if climbs[run.climb] > 1 else ""
        where = run.attempts[-1].instance if run.attempts else ""
        state = _state(run)
        started = run.created_at[:16].replace("T", " ")
        rows.append([run.run_id, rung, state, started, where, dollars(cost), run.folder or ""])
    return table(rows, right=(5,)) if runs else "no runs yet; `launch` starts one\n"


def project_text(account: Account) -> str:
    """What a project's budget has left."""
    left, cap = dollars(account.left_microusd), at_most(account.cap_microusd)
    cost, held = dollars(account.spent_microusd), account.held_microusd
    under_way = f", {dollars(held)} held by runs under way" if held else ""
    return f"project {account.project}: {left} of {cap} left, {cost} spent{under_way}\n"


def _state(run: Run) -> str:
    """The run's state; what still bills when it has ended is said."""
    open_ones = {a.machine for a in run.attempts if a.machine != "GONE" and a.microusd_per_hour}
    billing = f", machine {' and '.join(sorted(open_ones))}" if run.ended and open_ones else ""
    return ended_as(run.state, run.reason) + billing


def status_text(view: View) -> str:
    """One run: state, reason, the newest of its metrics, what it has cost."""
    run = view.run
    lines = [f"{run.run_id}: {_state(run)}"]
    lines += [run.message] if run.message else []
    last = run.attempts[-1] if run.attempts else None
    if last is not None:
        where = f"attempt {last.attempt} on {last.provider} {last.instance}"
        lines.append(f"{where}, machine {last.machine}, {dollars(view.spent_microusd)} in all")
    lines += [f"NOT SEEN NOW: {view.unseen}"] if view.unseen else []
    if isinstance(view.last, StepRecord):
        lines.append(step_line(view.last, view.spent_microusd, ended=run.ended))
    elif isinstance(view.last, PhaseRecord):
        lines.append(f"phase {view.last.phase}, {dollars(view.spent_microusd)} spent")
    lines.append(f"files: {view.folder}")
    if run.state == "FAILED" and view.log_tail:
        lines += ["end of its log:", view.log_tail]
    return "\n".join(lines) + "\n"


def receipt_text(receipt: Receipt, result: Result | None) -> str:
    """The account at the end of a run, with its metrics and gates."""
    parts = [f"{receipt.run_id}: {ended_as(receipt.state, receipt.reason)}"]
    if result is not None and result.pilot is not None:
        parts.append(pilot_line(result.pilot))
    if result is not None and result.metrics:
        rows = [[*row, ""] for row in quality_rows(result)]
        shown = table(rows, right=range(1, len(rows[0]))).rstrip()
        parts.append(f"{judged_on(result)}:\n{shown}")
    if result is not None and result.fit is not None:
        parts.append(fit_line(result.fit))
    if result is not None and result.gates:
        lines = [f"gate {gate_line(gate)}" for gate in result.gates]
        parts.append("\n".join(filter(None, [*lines, crossing_note(result.gates)])))
    if result is not None and result.warnings:
        parts.append("\n".join(f"warning: {line}" for line in result.warnings))
    if receipt.phases:
        parts.append(table(phase_rows(receipt), right=(1, 2)).rstrip())
    parts.append(table(receipt_rows(receipt), right=(1, 2, 3, 4)).rstrip())
    return "\n\n".join([*parts, spent_line(receipt)]) + "\n"


def step_line(record: StepRecord, spent_microusd: int, *, ended: bool = False) -> str:
    """A step in one line: step, loss, rate, time left unless the run has ended, dollars so far."""
    left = "" if ended else f"{duration(record.eta_seconds / 3600)} left  "
    return (
        f"step {record.step}/{record.steps_total}  loss {record.loss:.4f}  "
        f"{record.tokens_per_second:,.0f} tokens/s  {left}{dollars(spent_microusd)}"
    )
