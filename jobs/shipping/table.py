"""The table of an export: each file beside f16."""

from collections.abc import Sequence

from jobs.spec import Measured

HEAD = ("file", "size", "perplexity", "against f16", "prompt speed", "answer speed", "gates")


def table(files: Sequence[Measured]) -> str:
    """One line a file, columns aligned. Speeds are ratios to f16 in the same export."""
    names = [name for name in files[0].metrics if name != "loss"]
    rows = [[*HEAD[:4], *names, *HEAD[4:]], *(_row(measured, names) for measured in files)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _row(measured: Measured, names: Sequence[str]) -> list[str]:
    failed = [gate.metric for gate in measured.gates if not gate.passed]
    return [
        measured.file,
        size(measured.size_bytes),
        f"{measured.perplexity:.4g}",
        f"{measured.perplexity_change:+.2%}",
        *(f"{measured.metrics[name]:.3f}" if name in measured.metrics else "n/a" for name in names),
        f"{measured.prompt_speed_ratio:.2f}x",
        f"{measured.generated_speed_ratio:.2f}x",
        "no gates" if not measured.gates else f"FAIL: {', '.join(failed)}" if failed else "pass",
    ]


def size(count: int) -> str:
    """Bytes as people read them, decimal as file managers and Ollama show them."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count / 1e3:.0f} kB"
