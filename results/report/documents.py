"""All that a report is: the page in both formats, its pictures, and the same as data."""

from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.spec import ResolvedSpec
from results.receipt import Receipt
from results.report import curves, html, markdown
from results.report.drawing import png
from results.report.page import Chart, Page
from results.report.run_page import Files, Told, read, run_page


def documents(
    folder: Path, receipt: Receipt, told: Told, export: Path | None = None
) -> dict[str, bytes]:
    """Name → content of all that a report is; the same bytes for the same run."""
    files = read(folder, export)
    page = run_page(files, receipt, told)
    return {
        layout.REPORT: markdown.render(page).encode(),
        layout.REPORT_PAGE: html.render(page).encode(),
        layout.METADATA: _json(metadata(files, receipt)),
        layout.HISTORY: _json(curves.history(files.seen)),
        **{name: png(charts) for name, charts in _pictures(page).items()},
    }


def _pictures(page: Page) -> dict[str, list[Chart]]:
    """The learning rate stands in the picture of the loss."""
    found = {f.picture: [f.chart] for f in page.figures if f.picture}
    rate = [f.chart for f in page.figures if f.name == "learning-rate"]
    if layout.LOSS_PICTURE in found:
        found[layout.LOSS_PICTURE] += rate
    return found


def metadata(files: Files, receipt: Receipt) -> dict[str, Any]:
    """training_metadata.json: what was trained from what, how, where, and what it is worth."""
    result = files.result
    found: dict[str, Any] = {
        "run_id": receipt.run_id,
        "state": receipt.state,
        "reason": receipt.reason,
        "provider": receipt.provider,
        "instance": receipt.instance,
        "attempts": receipt.attempts,
        "spent_usd": receipt.spent_microusd / 1e6,
        "lineage": msgspec.to_builtins(files.lineage),
        "training": _trained(files.spec) if files.spec is not None else None,
    }
    if result is not None:
        names = (
            "status", "metrics", "intervals", "evaluated_on", "gates", "fit", "steps", "best_step",
            "tokens", "parameters_total", "parameters_trainable", "peak_memory_bytes",
            "memory_metric", "seconds_by_phase", "versions", "warnings", "tracked",
        )  # fmt: skip
        found |= {name: msgspec.to_builtins(getattr(result, name)) for name in names}
    return found


def _trained(spec: ResolvedSpec) -> dict[str, Any]:
    names = (
        "model", "task", "strategy", "dtype", "quantization", "lora", "train", "regression", "data",
        "train_sha256", "validation_sha256", "test_sha256", "seed", "device", "processes",
    )  # fmt: skip
    return {name: msgspec.to_builtins(getattr(spec, name)) for name in names}


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
