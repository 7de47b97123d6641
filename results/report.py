"""report.md: one page about one run, from the files of its folder and its receipt."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import EvalRecord, Fit, GateResult, PilotResult, Record, Result, StepRecord
from results.receipt import Receipt, dollars, duration, figure
from results.records import read_result, records

_BARS = "▁▂▃▄▅▆▇█"
SUBJECTS = {"base": "base model", "constant": "best constant answer", "tuned": "fine-tuned"}


def render(folder: Path, receipt: Receipt, offers_table: str) -> str:
    """The report as Markdown. `offers_table` is the plan's table, as text."""
    result = read_result(folder)
    seen = records(folder / layout.METRICS)
    parts = [
        f"# Run {receipt.run_id}: {receipt.state}"
        + (f" ({receipt.reason})" if receipt.reason else ""),
        _verdict(result),
        _quality(result),
        _curve(seen),
        f"## Receipt\n\n{_table(receipt_rows(receipt))}\n\n{spent_line(receipt)}",
        _table(phase_rows(receipt)) if receipt.phases else "",
        f"## Plan\n\n```text\n{offers_table.rstrip()}\n```",
        _samples(folder / layout.SAMPLES),
        _environment(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(result: Result | None) -> str:
    if result is None:
        return "The job left no result; its log is beside this page."
    pilot = [f"- {pilot_line(result.pilot)}"] if result.pilot is not None else []
    if result.failure is not None:
        failed = f"**{result.failure.reason}**: {_escape(result.failure.message)}"
        return "\n".join([failed, *(["", *pilot] if pilot else [])])
    lines = [f"- {gate_line(gate)}" for gate in result.gates]
    note = crossing_note(result.gates)
    lines += ["", note[0].upper() + note[1:] + ".", ""] if note else []
    pilot += [f"- {fit_line(result.fit)}"] if result.fit is not None else []
    if result.best_step is not None and result.best_step != result.steps:
        pilot.append(f"- kept: the weights of step {result.best_step} of {result.steps}")
    warned = [f"- warning: {_escape(w)}" for w in result.warnings]
    return "\n".join(["## Gates", "", *(lines or ["- none set"]), *pilot, *warned])


def crossing_note(gates: Sequence[GateResult]) -> str:
    """What an interval across a bound means; empty where there is none."""
    if all(gate.crossed is None for gate in gates):
        return ""
    return (
        "a gate passes by its value alone; where the 95 % interval reaches across the bound, "
        "the rows are too few to tell, and more of them would"
    )


def gate_line(gate: GateResult) -> str:
    """One gate in words, with the interval of its value and whether that crosses the bound."""
    bounds = [f"at least {gate.min:g}" if gate.min is not None else ""]
    bounds += [f"at most {gate.max:g}" if gate.max is not None else ""]
    got = "has no value" if gate.value is None else f"{gate.value:.3f}"
    if gate.low is not None and gate.high is not None:
        got += f" ({gate.low:.2f} to {gate.high:.2f} of {gate.n})"
    text = f"{'pass' if gate.passed else 'FAIL'}: {gate.metric} {got}, "
    text += " and ".join(filter(None, bounds))
    if gate.crossed is not None:
        side, bound = gate.crossed
        text += f": the interval reaches {side} {bound:g}"
    return text


def pilot_line(pilot: PilotResult) -> str:
    """What the pilot showed, in words."""
    after = "no number" if pilot.loss_after is None else f"{pilot.loss_after:.3f}"
    text = (
        f"pilot: loss {pilot.loss_before:.3f} → {after} in {pilot.steps} steps on "
        f"{pilot.examples} rows, {pilot.seconds_per_step:.2g} s a step; the training takes "
        f"{duration(pilot.train_seconds / 3600)} at least"
    )
    if pilot.seconds_left is not None:
        text += f" of the {duration(pilot.seconds_left / 3600)} left"
    return text


def fit_line(fit: Fit) -> str:
    """Error on rows that were trained on, and on rows that were not, with its verdict."""
    return (
        f"{fit.metric} on trained rows {fit.train:.3f}, on validation rows {fit.validation:.3f}: "
        f"{fit.gap:+.0%}, {fit.verdict}"
    )


def quality_rows(result: Result) -> list[list[str]]:
    """Each metric for the base model, the best constant answer and the fine-tuned model."""
    subjects = [s for s in SUBJECTS if s in result.metrics]
    names = dict.fromkeys(name for s in reversed(subjects) for name in result.metrics[s])
    rows = [["metric", *(SUBJECTS[s] for s in subjects)]]
    for name in names:
        rows.append([name, *(_measured(result, s, name) for s in subjects)])
    return rows


def _measured(result: Result, subject: str, name: str) -> str:
    value = result.metrics[subject].get(name)
    if value is None:
        return "n/a"
    near = result.intervals.get(subject, {}).get(name)
    # Beside the fine-tuned model's alone: three columns of them are not read.
    if near is None or subject != "tuned":
        return _short(value)
    return f"{_short(value)} ({_short(near.low)} to {_short(near.high)})"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def judged_on(result: Result) -> str:
    """Which rows the figures are of, and how many, in words."""
    near = result.intervals.get("tuned", result.intervals.get("base", {}))
    rows = f"{near['loss'].n} {result.evaluated_on} rows" if "loss" in near else ""
    text = f"On the {rows or result.evaluated_on + ' rows'}"
    if result.answered_on == "golden":
        asked = f" of {near['exact_match'].n}" if "exact_match" in near else ""
        text += f", answers to the golden set{asked}"
    return text + (", 95 % intervals in brackets" if near else "")


def _quality(result: Result | None) -> str:
    if result is None or not result.metrics:
        return ""
    return f"## {judged_on(result)}\n\n" + _table(quality_rows(result))


def _curve(seen: list[Record]) -> str:
    steps = [r for r in seen if isinstance(r, StepRecord)]
    if not steps:
        return ""
    first, last = steps[0], steps[-1]
    validation = [f"step {r.step}: {r.loss:.4f}" for r in seen if isinstance(r, EvalRecord)]
    lines = [
        "## Loss",
        "",
        f"`{sparkline([r.loss for r in steps])}`",
        "",
        f"{first.loss:.4f} at step {first.step} → {last.loss:.4f} at step {last.step}"
        f" of {last.steps_total}.",
    ]
    if validation:
        lines.append(f"Validation loss: {', '.join(validation)}.")
    return "\n".join(lines)


def sparkline(values: list[float], width: int = 60) -> str:
    """Means over `width` equal stretches, as bars from the lowest to the highest."""
    count = min(width, len(values))
    cuts = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BARS[round((m - low) / span * (len(_BARS) - 1))] for m in means)


def receipt_rows(receipt: Receipt) -> list[list[str]]:
    """Planned, upper bound, actual and the error of the plan, one row a figure."""
    rows = [["", "planned", "at most", "actual", "plan off by", ""]]
    for line in receipt.lines:
        off = line.off_by
        rows.append(
            [
                line.name,
                figure(line.planned, line.unit),
                "" if line.planned_upper is None else figure(line.planned_upper, line.unit),
                figure(line.actual, line.unit),
                "" if off is None else f"{off:+.0%}",
                line.note,
            ]
        )
    return rows


def phase_rows(receipt: Receipt) -> list[list[str]]:
    """Where a rented machine's time and dollars went; empty for this one."""
    if not receipt.phases:
        return []
    rows = [["phase", "time", "cost"]]
    for phase in receipt.phases:
        time, cost = duration(phase.seconds / 3600), dollars(phase.microusd)
        rows.append([phase.name.replace("_", " "), time, cost])
    return rows


def spent_line(receipt: Receipt) -> str:
    """What the run cost, of what it might have."""
    cap = receipt.max_cost_microusd
    limit = "" if cap is None else f" of a cap of {dollars(cap)}"
    tries = f", {receipt.attempts} attempts" if receipt.attempts > 1 else ""
    spent = dollars(receipt.spent_microusd)
    line = f"Spent {spent}{limit} on {receipt.provider} {receipt.instance}{tries}."
    if receipt.accounted_microusd is None:
        return line
    reckoned = dollars(receipt.accounted_microusd)
    return f"{line} SkyPilot reckons {reckoned}: duration times list price, not a bill."


def _samples(path: Path) -> str:
    if not path.is_file():
        return ""
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()[:5]]
    if not rows:
        return ""
    names = list(rows[0])
    table = [names, *([_escape(str(row.get(n, ""))) for n in names] for row in rows)]
    return f"## Samples\n\n{_table(table)}\n\nAll of them: {layout.SAMPLES}."


def _environment(result: Result | None) -> str:
    if result is None:
        return ""
    phases = ", ".join(f"{name} {s:.1f} s" for name, s in result.seconds_by_phase.items())
    versions = ", ".join(f"{name} {v}" for name, v in result.versions.items())
    total, trained = result.parameters_total, result.parameters_trainable
    size = f"{trained:,} of {total + trained:,} parameters trained." if total else ""
    return f"## How\n\n{size} Time by phase: {phases}.\n\nVersions: {versions}.".replace("  ", " ")


def _escape(text: str) -> str:
    """Text of models and data stays text inside a Markdown table."""
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        text = text.replace(mark, entity)
    return " ".join(text.split())


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
