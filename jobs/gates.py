"""Quality gates: each held against the tuned model's metrics, and written to gates.json."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import msgspec

from jobs import layout
from jobs.aside import write_aside
from jobs.spec import Gate, GateResult, Interval


def judge(
    gates: Sequence[Gate],
    metrics: Mapping[str, float],
    intervals: Mapping[str, Interval] | None = None,
) -> tuple[GateResult, ...]:
    """Hold each gate against its metric's value; what was not measured, or is no finite number,
    does not pass.

    The interval is told and does not decide: with 40 rows no gate at 0.9 could be passed by the
    low end of anything short of perfect.
    """
    results = []
    for gate in gates:
        value = metrics.get(gate.metric)
        value = value if value is not None and isfinite(value) else None
        passed = (
            value is not None
            and (gate.min is None or value >= gate.min)
            and (gate.max is None or value <= gate.max)
        )
        near = (intervals or {}).get(gate.metric)
        near = near if near is not None and near.is_finite else None
        results.append(
            GateResult(
                metric=gate.metric,
                min=gate.min,
                max=gate.max,
                value=value,
                passed=passed,
                low=near.low if near is not None else None,
                high=near.high if near is not None else None,
                n=near.n if near is not None else None,
            )
        )
    return tuple(results)


def write_gates(folder: Path, results: Sequence[GateResult]) -> None:
    """gates.json: a list, empty where no gate is set."""
    text = msgspec.json.format(msgspec.json.encode(list(results)), indent=2)
    write_aside(folder / layout.GATES, text + b"\n")
