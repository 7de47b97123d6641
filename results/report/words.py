"""A run's figures in words and rows of text, for its report and for the terminal."""

import re
from collections.abc import Sequence
from itertools import pairwise

from jobs.spec import Fit, Gate, GateResult, Lineage, PilotResult, Result, Tracked
from results.receipt import Receipt, at_most, counted, dollars, duration, figure

_BARS = "▁▂▃▄▅▆▇█"
SUBJECTS = {"base": "base model", "constant": "best constant answer", "tuned": "fine-tuned"}


def short_device(name: str) -> str:
    """Without its maker's marks, and without what every processor is called."""
    return " ".join(re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*", " ", name).split()) or name


def file_size(size_bytes: int) -> str:
    """Three digits, in the decimal units that file managers and Ollama show."""
    value, unit = next(
        ((size_bytes / scale, unit) for unit, scale in (("GB", 1e9), ("MB", 1e6))
         if size_bytes >= scale),
        (size_bytes / 1e3, "kB"),
    )  # fmt: skip
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def crossing_note(gates: Sequence[GateResult]) -> str:
    """What an interval across a bound means; empty where there is none."""
    if all(gate.crossed is None for gate in gates):
        return ""
    return (
        "a gate passes by its value alone; where the 95 % interval reaches across the bound, "
        "the rows are too few to tell, and more of them would"
    )


def bounds(gate: Gate | GateResult) -> str:
    """What a gate's metric must hold, in words."""
    least = f"at least {gate.min:g}" if gate.min is not None else ""
    most = f"at most {gate.max:g}" if gate.max is not None else ""
    return " and ".join(filter(None, (least, most)))


def gate_line(gate: GateResult) -> str:
    """One gate in words, with the interval of its value and whether that crosses the bound."""
    got = "has no value" if gate.value is None else f"{gate.value:.3f}"
    if gate.low is not None and gate.high is not None:
        got += f" ({gate.low:.2f} to {gate.high:.2f} of {gate.n})"
    text = f"{'pass' if gate.passed else 'FAIL'}: {gate.metric} {got}, "
    text += bounds(gate)
    if gate.crossed is not None:
        side, bound = gate.crossed
        text += f": the interval reaches {side} {bound:g}"
    return text


def pilot_line(pilot: PilotResult) -> str:
    """What the pilot showed, in words."""
    before, after = (
        "no number" if loss is None else f"{loss:.3f}"
        for loss in (pilot.loss_before, pilot.loss_after)
    )
    text = (
        f"pilot: loss {before} → {after} in "
        f"{counted(pilot.steps, 'step')} on {counted(pilot.examples, 'row')}, "
        f"{pilot.seconds_per_step:.2g} s a step; the training takes "
        f"{duration(pilot.train_seconds / 3600)} at least"
    )
    if pilot.seconds_left is not None:
        text += f" of the {duration(pilot.seconds_left / 3600)} left"
    return text


def fit_line(fit: Fit) -> str:
    """Error on rows that were trained on, and on rows that were not, with its verdict."""
    gap = "" if fit.gap is None else f"{fit.gap:+.0%}, "
    return (
        f"{fit.metric} on trained rows {fit.train:.3f}, on validation rows {fit.validation:.3f}: "
        f"{gap}{fit.verdict}"
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
    rows = counted(near["loss"].n, f"{result.evaluated_on} row") if "loss" in near else ""
    text = f"On the {rows or result.evaluated_on + ' rows'}"
    if result.answered_on == "golden":
        asked = f" of {near['exact_match'].n}" if "exact_match" in near else ""
        text += f", answers to the golden set{asked}"
    return text + (", 95 % intervals in brackets" if near else "")


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
                ""
                if line.planned_upper is None
                else figure(line.planned_upper, line.unit, upper=True),
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


def lineage_pairs(lineage: Lineage) -> dict[str, str]:
    """What an adapter comes from, by name: hashes whole, so that they can be compared."""
    base, provenance = lineage.base, lineage.provenance
    found: dict[str, str | None] = {
        "base revision": base.revision,
        "base config": base.config_sha256,
        "base weights": base.weights_sha256,
        "base tokenizer": base.tokenizer_sha256,
        "base chat template": base.chat_template_sha256 or "none",
        "code": lineage.code_sha256,
    }
    if provenance is not None:
        found |= {
            "Loralift": provenance.version,
            "git revision": provenance.git_revision,
            "image": provenance.image,
            "plan": provenance.plan_sha256,
        }
    return {name: value for name, value in found.items() if value}


def tracked_line(tracked: Tracked) -> str:
    """Where the curves went beside metrics.jsonl, and whether all of them did."""
    line = f"Tracked by {tracked.tracker}: {counted(tracked.logs, 'log')} in {tracked.where}"
    return f"{line}, then it failed: {tracked.problem}" if tracked.problem else f"{line}."


def spent_line(receipt: Receipt) -> str:
    """What the run cost, of what it might have."""
    cap = receipt.max_cost_microusd
    limit = "" if cap is None else f" of a cap of {at_most(cap)}"
    tries = f", {receipt.attempts} attempts" if receipt.attempts > 1 else ""
    spent = dollars(receipt.spent_microusd)
    line = f"Spent {spent}{limit} on {receipt.provider} {receipt.instance}{tries}."
    if receipt.accounted_microusd is None:
        return line
    reckoned = dollars(receipt.accounted_microusd)
    return f"{line} SkyPilot reckons {reckoned}: duration times list price, not a bill."
