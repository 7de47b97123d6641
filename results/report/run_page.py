"""The page about one run, from the files of its folder, its receipt and what its launcher knows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from jobs import layout
from jobs.spec import Lineage, Measured, Record, ResolvedSpec, Result
from results.receipt import Receipt, at_most, dollars, duration
from results.records import read_result, records
from results.report import curves, overfitting, quality
from results.report.page import Block, Exchanges, Item, Items, Page, Section, Table, Text, Tone
from results.report.words import (
    crossing_note,
    file_size,
    gate_line,
    lineage_pairs,
    phase_rows,
    pilot_line,
    receipt_rows,
    spent_line,
    tracked_line,
)

T = TypeVar("T")

SAMPLES_SHOWN = 5
SAMPLE_CHARACTERS = 1200  # of one text; samples.jsonl has it whole


class Told(Struct, frozen=True, kw_only=True):
    """What only the launcher knows of a run, ready to be shown."""

    plan: tuple[Block, ...] = ()  # the offers, chosen and rejected
    ladder: Table | None = None  # what failed gates would lead to
    attempts: Table | None = None
    climb: Table | None = None  # the runs of the same job, rung by rung


class Files(Struct, frozen=True, kw_only=True):
    """What a run's folder holds of what is shown."""

    spec: ResolvedSpec | None
    result: Result | None
    seen: list[Record]
    samples: list[dict[str, str | None]]
    quantised: tuple[Measured, ...] = ()
    lineage: Lineage | None = None


class _Quantisation(Struct):
    files: tuple[Measured, ...] = ()


def read(folder: Path, export: Path | None = None) -> Files:
    """`export`: the folder of the run's export, where there may be one."""
    samples = folder / layout.SAMPLES
    lines = samples.read_bytes().splitlines()[:SAMPLES_SHOWN] if samples.is_file() else []
    return Files(
        spec=_read(folder / layout.SPEC, ResolvedSpec),
        result=read_result(folder),
        seen=records(folder / layout.METRICS),
        samples=[msgspec.json.decode(line) for line in lines],
        quantised=_quantised(export / layout.QUANTISATION) if export is not None else (),
        lineage=_read(folder / layout.LINEAGE, Lineage),
    )


def _read(path: Path, kind: type[T]) -> T | None:
    """None where it is missing, or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def _quantised(path: Path) -> tuple[Measured, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Quantisation).files
    except (OSError, msgspec.DecodeError):
        return ()


def run_page(files: Files, receipt: Receipt, told: Told) -> Page:
    result = files.result
    sections = [
        Section("Gates", _gates(result)),
        Section("The climb", (told.climb,) if told.climb is not None else ()),
        Section("Quality", _quality(result)),
        Section("Overfitting", _overfitting(result, files.seen)),
        Section("Training", _training(files)),
        Section("Samples, before and after", _samples(files.samples)),
        Section("Quantisation", _quantisation(files.quantised)),
        Section("Receipt", _receipt(receipt)),
        Section("Attempts", (told.attempts,) if told.attempts is not None else ()),
        Section("Plan", told.plan),
        Section("When a gate fails", (told.ladder,) if told.ladder is not None else ()),
        Section("How", _how(files, receipt)),
        Section("Lineage", _lineage(files.lineage)),
    ]
    reason = f" ({receipt.reason})" if receipt.reason else ""
    return Page(
        title=f"Run {receipt.run_id}",
        state=receipt.state + reason,
        tone=_tone(receipt),
        verdict=_verdict(receipt, result),
        facts=_facts(files, receipt),
        sections=tuple(section for section in sections if section.blocks),
    )


def _tone(receipt: Receipt) -> Tone:
    if receipt.state == "SUCCEEDED":
        return "pass" if receipt.reason is None else "fail"
    return "fail" if receipt.state == "FAILED" else "warn"


def _verdict(receipt: Receipt, result: Result | None) -> Text:
    if result is None:
        return Text(text="The job left no result; its log is beside this page.")
    if result.failure is not None:
        return Text(lead=result.failure.reason, text=result.failure.message)
    if not result.gates:
        return Text(text="Training ended well. No gate was set, so nothing judged the result.")
    count = len(result.gates)
    every = "The one gate" if count == 1 else f"All {count} gates"
    failed = [gate.metric for gate in result.gates if not gate.passed]
    if failed:
        some = every if len(failed) == count else f"{len(failed)} of {count} gates"
        return Text(text=f"{some} failed: {', '.join(failed)}.")
    return Text(text=f"{every} passed.")


def _facts(files: Files, receipt: Receipt) -> tuple[tuple[str, str], ...]:
    """What is asked first of a run."""
    facts = []
    if files.spec is not None:
        facts += [("Model", Path(files.spec.model.id).name)]
        facts += [("Strategy", f"{files.spec.strategy}, {files.spec.dtype}")]
    facts.append(("Where", f"{receipt.provider} {receipt.instance}"))
    lines = {line.name: line for line in receipt.lines}
    if "time" in lines and lines["time"].actual is not None:
        facts.append(("Time", duration(lines["time"].actual)))
    cap = receipt.max_cost_microusd
    limit = "" if cap is None else f" of {at_most(cap)}"
    facts.append(("Spent", dollars(receipt.spent_microusd) + limit))
    if files.result is not None and files.result.steps:
        facts.append(("Steps", f"{files.result.steps:,}"))
    return tuple(facts)


def _gates(result: Result | None) -> tuple[Block, ...]:
    if result is None:
        return ()
    items = [Item(gate_line(gate), "pass" if gate.passed else "fail") for gate in result.gates]
    if not items and result.failure is None:
        items.append(Item("none set"))
    if result.pilot is not None:
        items.append(Item(pilot_line(result.pilot)))
    items += [Item(f"warning: {warning}", "warn") for warning in result.warnings]
    note = crossing_note(result.gates)
    below = [Text(text=note[0].upper() + note[1:] + ".")] if note else []
    return (Items(tuple(items)), *below) if items else ()


def _quality(result: Result | None) -> tuple[Block, ...]:
    if result is None or not result.metrics:
        return ()
    figures = (
        quality.overall_figure(result, layout.OVERALL_PICTURE),
        quality.dimension_figure(result, layout.DIMENSIONS_PICTURE),
    )
    return (*(f for f in figures if f is not None), quality.metrics_table(result))


def _overfitting(result: Result | None, seen: Sequence[Record]) -> tuple[Block, ...]:
    told = overfitting.verdict(result, seen)
    blocks: list[Block] = [Text(text=told)] if told else []
    best = result.best_step if result is not None else None
    if result is not None and best is not None and best != result.steps:
        blocks.append(Text(text=f"Kept: the weights of step {best} of {result.steps}."))
    return tuple(blocks)


def _training(files: Files) -> tuple[Block, ...]:
    figures = (curves.loss_figure(files.seen, layout.LOSS_PICTURE), curves.rate_figure(files.seen))
    tracked = files.result.tracked if files.result is not None else None
    said = (Text(text=tracked_line(tracked)),) if tracked is not None else ()
    return (*(figure for figure in figures if figure is not None), *said)


def _samples(rows: Sequence[dict[str, str | None]]) -> tuple[Block, ...]:
    if not rows:
        return ()
    names = tuple(name for name in rows[0] if any(row.get(name) is not None for row in rows))
    texts = tuple(tuple(_shortened(row.get(name)) for name in names) for row in rows)
    return (
        Exchanges(names=names, rows=texts),
        Text(text=f"The first of those in {layout.SAMPLES}."),
    )


def _shortened(text: str | None) -> str:
    if text is None:
        return "not asked"
    if len(text) <= SAMPLE_CHARACTERS:
        return text
    return f"{text[:SAMPLE_CHARACTERS]} … ({len(text):,} characters in all)"


def _quantisation(files: Sequence[Measured]) -> tuple[Block, ...]:
    if not files:
        return ()
    rows = tuple(
        (
            made.quantization,
            file_size(made.size_bytes),
            "n/a" if made.perplexity is None else f"{made.perplexity:.3f}",
            "n/a" if made.perplexity_change is None else f"{made.perplexity_change:+.1%}",
            f"{made.generated_tokens_per_second:,.0f} tokens/s",
            f"{made.generated_speed_ratio:.2f}×",
            "; ".join(gate_line(gate) for gate in made.gates) or "none set",
            "shipped" if made.shipped else "not asked for" if not made.asked else "rejected",
        )
        for made in files
    )
    head = (
        "file type", "size", "perplexity", "perplexity against f16", "writes",
        "speed against f16", "gates", "outcome",
    )  # fmt: skip
    caption = "Each file run through llama.cpp on one machine"
    return (Table(caption=caption, head=head, rows=rows, right=(1, 2, 3, 4, 5)),)


def _receipt(receipt: Receipt) -> tuple[Block, ...]:
    head, *rows = receipt_rows(receipt)
    blocks: list[Block] = [
        Table(
            caption="Estimate against actual",
            head=("figure", *head[1:-1], "note"),
            rows=tuple(tuple(row) for row in rows),
            right=(1, 2, 3, 4),
        ),
        Text(text=spent_line(receipt)),
    ]
    if receipt.phases:
        head, *rows = phase_rows(receipt)
        of = tuple(tuple(row) for row in rows)
        blocks.append(
            Table(caption="Where it went, latest attempt", head=tuple(head), rows=of, right=(1, 2))
        )
    return tuple(blocks)


def _how(files: Files, receipt: Receipt) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if files.spec is not None:
        blocks.append(_pairs("Settings", "setting", settings(files.spec)))
    result = files.result
    if result is None:
        return tuple(blocks)
    total, trained = result.parameters_total, result.parameters_trainable
    if total:
        size = f"{trained:,} of {total + trained:,} parameters trained."
        blocks.append(Text(text=size))
    if result.seconds_by_phase and not receipt.phases:
        times = {name: duration(s / 3600) for name, s in result.seconds_by_phase.items()}
        blocks.append(_pairs("Time by phase, as the job counts", "phase", times))
    if result.versions:
        blocks.append(_pairs("Versions", "package", result.versions))
    return tuple(blocks)


def _lineage(lineage: Lineage | None) -> tuple[Block, ...]:
    if lineage is None:
        return ()
    data = {f"{name} rows": digest for name, digest in lineage.data_sha256.items()}
    parent = lineage.parent
    went_on = {"parent adapter": parent.adapter_sha256} if parent is not None else {}
    every = lineage_pairs(lineage) | data | went_on | lineage.files
    return (_pairs("What it comes from, by SHA-256", "what", every),)


def _pairs(caption: str, name: str, values: dict[str, str]) -> Table:
    return Table(caption=caption, head=(name, "value"), rows=tuple(values.items()))


def settings(spec: ResolvedSpec) -> dict[str, str]:
    """What decides how a model is trained, by the recipe's dotted keys."""
    train, lora = spec.train, spec.lora
    found: dict[str, object] = {
        # A folder's own place is nobody else's business.
        "model.id": model.name if (model := Path(spec.model.id)).is_absolute() else spec.model.id,
        "model.revision": spec.model.revision or "not pinned",
        "task": spec.task,
        "strategy": spec.strategy,
        "dtype": spec.dtype,
        "data.train": Path(spec.data.train).name,
        "data.train sha256": spec.train_sha256,
    }
    if spec.strategy != "full":
        found |= {"lora.r": lora.r, "lora.alpha": lora.alpha, "lora.dropout": lora.dropout}
        found |= {"lora.targets": ", ".join(lora.targets)}
    found |= {
        f"train.{name}": getattr(train, name)
        for name in ("epochs", "learning_rate", "schedule", "effective_batch", "micro_batch",
                     "seq_len", "optimizer", "packing")
    }  # fmt: skip
    if spec.regression is not None:
        found["regression.dimensions"] = ", ".join(spec.regression.dimensions)
        found["regression.loss"] = spec.regression.loss
    found["seed"] = spec.seed
    return {key: str(value) for key, value in found.items() if value is not None}
