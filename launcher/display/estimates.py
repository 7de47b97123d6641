"""Every term of one estimate, for people."""

from launcher.display.tables import table
from launcher.display.warnings import warning_lines
from launcher.planning.refusals import gib
from launcher.types import GIB, Candidate, Estimate, Plan
from results.receipt import duration


def estimate_text(plan: Plan, candidate: Candidate) -> str:
    """Every term of one estimate, in bytes and hours, then the verdict for each offer."""
    estimate = candidate.estimate
    if estimate is None:
        return f"{candidate.offer.device.name}: {candidate.reason}\n"
    name = candidate.offer.device.name
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
