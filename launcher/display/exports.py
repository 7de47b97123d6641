"""What an export measured, for people."""

from collections.abc import Sequence

from jobs.spec import ExportResult, Measured
from launcher.display.tables import table
from results.report.words import file_size


def export_text(result: ExportResult) -> str:
    """What was shipped and what each file is worth; nothing where the export failed early."""
    lines = [f"WARNING {warning}" for warning in result.warnings]
    if result.files:
        said = ("loss", "perplexity")  # by a column of its own
        names = [name for name in result.files[0].metrics if name not in said]
        head = ["file", "size", "perplexity", "against f16", *names, "prompt", "answer", "gates"]
        rows = [head, *(_measured(measured, names) for measured in result.files)]
        lines.append(table(rows, right=range(1, len(head) - 1)))
    shipped = [measured.file for measured in result.files if measured.shipped]
    kept = [name for name in (result.merged, *shipped, result.modelfile) if name is not None]
    if kept:
        lines.append(f"in {result.folder}: {', '.join(kept)}")
    lines += [f"next: {command}" for command in result.next]
    return "\n".join(lines) + "\n" if lines else ""


def _measured(measured: Measured, names: Sequence[str]) -> list[str]:
    failed = [gate.metric for gate in measured.gates if not gate.passed]
    verdict = f"FAIL {', '.join(failed)}" if failed else "pass" if measured.gates else "none"
    return [
        measured.file,
        file_size(measured.size_bytes),
        "n/a" if measured.perplexity is None else f"{measured.perplexity:.4g}",
        "n/a" if measured.perplexity_change is None else f"{measured.perplexity_change:+.2%}",
        *(f"{measured.metrics[name]:.3f}" if name in measured.metrics else "n/a" for name in names),
        f"{measured.prompt_speed_ratio:.2f}x",
        f"{measured.generated_speed_ratio:.2f}x",
        verdict,
    ]
