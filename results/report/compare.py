"""Several runs side by side: settings that differ, metrics, gates, where, time and dollars."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from jobs.spec import ResolvedSpec, Result
from results.receipt import Receipt, counted, dollars, figure
from results.report import curves, overfitting
from results.report.page import Block, Cell, Figure, Lines, Page, Section, Series, Table, Text
from results.report.run_page import Files
from results.report.words import SUBJECTS, bounds, gate_line

# Of one run only: its name, its clock, and what it was started from.
_OWN = ("run_id", "name", "deadline", "wire_version", "provenance")


class Compared(Struct, frozen=True, kw_only=True):
    files: Files
    receipt: Receipt
    gpu: str  # what the plan calls the device


def compare_page(runs: Sequence[Compared]) -> Page:
    sections = (
        Section("Verdict", (_verdicts(runs),)),
        Section("Metrics", _metrics(runs)),
        Section("Loss", _losses(runs)),
        Section("Settings that differ", (_settings(runs),)),
    )
    return Page(
        title=f"{len(runs)} runs compared",
        verdict=Text(text=f"{'; '.join(map(_summary, runs))}."),
        sections=tuple(section for section in sections if section.blocks),
    )


def _summary(run: Compared) -> str:
    result, spent = run.files.result, dollars(run.receipt.spent_microusd)
    gates = result.gates if result is not None else ()
    passed = f"{sum(gate.passed for gate in gates)} of {counted(len(gates), 'gate')} passed"
    return f"{run.receipt.run_id}: {passed if gates else _state(run)}, {spent}"


def _table(
    runs: Sequence[Compared], caption: str, name: str, rows: Sequence[tuple[Cell, ...]]
) -> Table:
    head = (name, *(run.receipt.run_id for run in runs))
    return Table(caption=caption, head=head, rows=tuple(rows))


def _verdicts(runs: Sequence[Compared]) -> Table:
    shown: dict[str, Callable[[Compared], str]] = {
        "state": _state,
        "gates": _gates,
        "GPU": lambda run: run.gpu,
        "where": lambda run: f"{run.receipt.provider} {run.receipt.instance}",
        "time": partial(_actual, "time"),
        "dollars": partial(_actual, "dollars"),
        "memory": partial(_actual, "memory"),
        "attempts": lambda run: str(run.receipt.attempts),
        "overfitting": _fit,
    }
    every = ((name, *map(of, runs)) for name, of in shown.items())
    rows: list[tuple[Cell, ...]] = [row for row in every if any(row[1:])]
    return _table(runs, "How each run ended", "figure", rows)


def _actual(name: str, run: Compared) -> str:
    """A figure of the run's receipt."""
    found = next((line for line in run.receipt.lines if line.name == name), None)
    return "" if found is None else figure(found.actual, found.unit)


def _state(run: Compared) -> str:
    reason = run.receipt.reason
    return run.receipt.state + (f" ({reason})" if reason else "")


def _gates(run: Compared) -> str:
    result = run.files.result
    if result is None:
        return "no result"
    return "; ".join(gate_line(gate) for gate in result.gates) or "none set"


def _fit(run: Compared) -> str:
    return overfitting.verdict(run.files.result, run.files.seen)


def _metrics(runs: Sequence[Compared]) -> tuple[Block, ...]:
    """Of the fine-tuned models, the first's order first."""
    results = [run.files.result for run in runs]
    names = dict.fromkeys(name for result in results for name in _tuned(result))
    rows = [(name, *(_measured(result, name) for result in results)) for name in names]
    if not rows:
        return ()
    caption = f"The {SUBJECTS['tuned']} model of each run"
    if any(result is not None and "tuned" in result.intervals for result in results):
        caption += ", 95 % intervals in brackets"
    table = _table(runs, caption, "metric", rows)
    blocks: list[Block] = [msgspec.structs.replace(table, right=tuple(range(1, len(runs) + 1)))]
    if len({_judged(run.files) for run in runs}) > 1:
        blocks.append(
            Text(
                lead="Careful",
                text="these runs were not judged on the same data: their figures do not compare.",
            )
        )
    return tuple(blocks)


def _tuned(result: Result | None) -> dict[str, float]:
    return result.metrics.get("tuned", {}) if result is not None else {}


def _measured(result: Result | None, name: str) -> str:
    near = result.intervals.get("tuned", {}).get(name) if result is not None else None
    span = f" ({_number(near.low)} to {_number(near.high)})" if near is not None else ""
    return _number(_tuned(result).get(name)) + span


def _judged(files: Files) -> tuple[object, ...]:
    """What the rows come from that a run was judged on."""
    spec, result = files.spec, files.result
    kind = result.evaluated_on if result is not None else ""
    if spec is None:
        return (kind,)
    own = spec.test_sha256 if kind == "test" else spec.validation_sha256
    # Rows held out by the seed are other rows with another file, seed or share.
    drawn = None if own else (spec.train_sha256, spec.seed, *spec.data.held_out_shares.values())
    return (kind, own, drawn, spec.golden_sha256, spec.eval.limit)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _losses(runs: Sequence[Compared]) -> tuple[Block, ...]:
    lines, rows, told = [], [], []
    for number, run in enumerate(runs):
        trained = curves.steps(run.files.seen)
        if not trained:
            continue
        name, points = run.receipt.run_id, tuple((r.step, r.loss) for r in trained)
        lines.append(Series(name=name, points=points, color=number))
        judged = curves.validations(run.files.seen)
        last = judged[-1].loss if judged else None
        ends = (_number(trained[0].loss), _number(trained[-1].loss), _number(last))
        rows.append((name, str(trained[-1].step), *ends))
        told.append(f"{name}: {ends[0]} → {ends[1]} in {counted(trained[-1].step, 'step')}")
    if not lines:
        return ()
    text = "; ".join(told) + "."
    head = ("run", "steps", "first loss", "last loss", "last validation loss")
    return (
        Figure(
            name="losses",
            title="Training loss by step",
            text=text,
            note=text,
            chart=Lines(series=tuple(lines), x="optimizer step", y="loss"),
            data=Table(caption="Losses", head=head, rows=tuple(rows), right=(1, 2, 3, 4)),
        ),
    )


def _settings(runs: Sequence[Compared]) -> Block:
    flat = [_flat(run.files.spec) for run in runs]
    keys = dict.fromkeys(key for found in flat for key in found)
    rows = [
        (key, *(found.get(key, "") for found in flat))
        for key in keys
        if len({found.get(key, "") for found in flat}) > 1
    ]
    if not rows:
        return Text(text="None: the same job, data and seed.")
    return _table(runs, "By the recipe's keys; what is the same is left out", "setting", rows)


def _flat(spec: ResolvedSpec | None) -> dict[str, str]:
    """Dotted key → value."""
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list | tuple):
            found[prefix] = ", ".join(map(str, value))
        else:
            found[prefix] = "" if value is None else str(value)

    if spec is not None:
        plain = msgspec.to_builtins(spec)
        plain["gates"] = [f"{gate.metric} {bounds(gate)}" for gate in spec.gates]
        walk("", {key: value for key, value in plain.items() if key not in _OWN})
    return found
