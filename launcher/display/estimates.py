"""Every term of one estimate, for people."""

from typing import Any

import msgspec

from launcher.catalog.providers import NOBODY
from launcher.display.tables import table
from launcher.display.warnings import warning_lines
from launcher.planning.refusals import gib
from launcher.types import GIB, Candidate, Device, Estimate, Plan
from results.receipt import duration

_MONEY = ("expected_microusd", "worst_microusd")


def estimate_json(plan: Plan) -> dict[str, Any]:
    """The plan, with the sums that people are shown; what has no price has none here either."""
    found: dict[str, Any] = msgspec.to_builtins(plan)
    for shown, candidate in zip(found["candidates"], plan.candidates, strict=True):
        if candidate.offer.provider == NOBODY:
            shown |= dict.fromkeys(_MONEY)
            shown["offer"]["microusd_per_hour"] = None
        if candidate.estimate is not None:
            shown["estimate"] |= _figures(candidate.estimate, candidate.offer.device)
    return found


def _figures(estimate: Estimate, device: Device) -> dict[str, float | None]:
    """torch counts on CUDA alone; `memory_free_bytes` is below 0 where the bound is too much."""
    counted = device.kind == "cuda"
    return {
        "memory_allocated_bytes": estimate.memory_allocated_bytes if counted else None,
        "memory_reserved_bytes": estimate.memory_reserved_bytes if counted else None,
        "memory_free_bytes": device.usable_bytes - estimate.memory_upper_bytes,
        "hours_low": estimate.hours_low,
        "hours_expected": estimate.hours_expected,
        "hours_high": estimate.hours_high,
    }


def estimate_text(plan: Plan, candidate: Candidate) -> str:
    """Every term of one estimate, in bytes and hours, then the verdict for each offer."""
    estimate = candidate.estimate
    if estimate is None:
        return f"{candidate.offer.device.name}: {candidate.reason}\n"
    name = candidate.offer.device_name
    memory = [["memory", "bytes", "GiB", "why"]]
    memory += [[t.name, f"{t.bytes:,}", f"{t.bytes / GIB:.2f}", t.why] for t in estimate.memory]
    memory += [
        [what, f"{size:,}", f"{size / GIB:.2f}", why] for what, size, why in _sums(candidate)
    ]
    time = [["time", "low", "expected", "high", "why"]]
    for t in estimate.time:
        row = [signed(h) for h in (t.low_hours, t.expected_hours, t.high_hours)]
        time.append([t.name, *row, t.why])
    head = (
        f"{plan.model.id} ({plan.model.parameters:,} parameters, "
        f"{estimate.parameters_trainable:,} trained) on {name}; "
        f"host RAM {gib(estimate.host_ram_bytes)} GiB, disk {gib(estimate.disk_bytes)} GiB"
    )
    if estimate.export:
        head += (
            f"; export needs {gib(estimate.export_bytes)} GiB more, and"
            f" {gib(estimate.export_ram_bytes)} GiB of RAM"
        )
    assumed = ["assumed: " + "; ".join(estimate.assumptions)] if estimate.assumptions else []
    return (
        "\n\n".join(
            [
                "\n".join([head, *warning_lines([plan])]),
                table(memory, right=(1, 2)).rstrip(),
                table(time, right=(1, 2, 3)).rstrip(),
                *([table(_disk(estimate), right=(1, 2)).rstrip()] if estimate.disk else []),
                *assumed,
            ]
        )
        + "\n"
    )


def _disk(estimate: Estimate) -> list[list[str]]:
    """What the job keeps at its end, then what an export adds."""
    parts = [(t.name, t.bytes, t.why) for t in estimate.disk]
    parts.append(("at the job's end", estimate.disk_bytes, "all of these at once"))
    parts += [(f"export: {t.name}", t.bytes, t.why) for t in estimate.export]
    rows = [[name, f"{size:,}", f"{size / GIB:.2f}", why] for name, size, why in parts]
    return [["disk", "bytes", "GiB", "why"], *rows]


def _sums(candidate: Candidate) -> list[tuple[str, int, str]]:
    """(what, bytes, why) of what the terms add up to."""
    estimate, device = candidate.estimate, candidate.offer.device
    assert estimate is not None, "only what was estimated is shown"
    counters = []
    if device.kind == "cuda":
        counters = [
            ("allocated", estimate.memory_allocated_bytes, "torch.cuda.max_memory_allocated"),
            ("reserved", estimate.memory_reserved_bytes, "torch.cuda.max_memory_reserved"),
        ]
    free = device.usable_bytes - estimate.memory_upper_bytes
    room = f"{abs(free) / GIB:.2f} GiB {'stay free' if free >= 0 else 'too much'}"
    return [
        *counters,
        ("expected", estimate.memory_expected_bytes, ""),
        ("upper bound", estimate.memory_upper_bytes, f"of {gib(device.usable_bytes)} GiB: {room}"),
    ]


def signed(hours: float) -> str:
    """A duration; what calibration takes away has a minus."""
    return f"-{duration(-hours)}" if hours < 0 else duration(hours)
