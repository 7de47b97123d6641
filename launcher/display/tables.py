"""Tables of plain text."""

from collections.abc import Iterable, Sequence


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows under a head, columns as wide as their longest cell; the last column runs on."""
    right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(
        1, "  ".join("─" * width for width in widths[:-1]) + "  " + "─" * min(widths[-1], 24)
    )
    return "\n".join(lines) + "\n"


def count(parameters: int) -> str:
    """A model's size as people name it."""
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
