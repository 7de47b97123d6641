"""The model card: README.md of a published run, from what the run says of itself.

Pure: nothing is read here. YAML front matter is what the Hub indexes
(huggingface.co/docs/hub/model-cards); the rest is for people. Text of models and data stays text,
and a path of the machine it came from is shortened to its last name.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from msgspec import Struct

from jobs.spec import Lineage, Measured, ResolvedSpec, Result
from results.portable import on_hub, own_name, recipe, without_folders
from results.receipt import Receipt, at_most, dollars, duration
from results.report.markdown import escape
from results.report.words import file_size, gate_line, judged_on, lineage_pairs, quality_rows


class Card(Struct, frozen=True, kw_only=True):
    """All that a card says, and of what."""

    repository: str  # ORG/NAME
    spec: ResolvedSpec
    lineage: Lineage
    result: Result
    receipt: Receipt
    rows: dict[str, int] = {}  # by set, as they were planned with
    licence: str | None = None  # an id of the Hub's; None: not said
    objections: tuple[str, ...] = ()  # why it would not have been published unforced
    merged: bool = False  # a merged model lies beside the adapter
    files: tuple[Measured, ...] = ()  # GGUF files that lie beside it
    places: tuple[str, ...] = ()  # paths of the machine that it comes from, to be shortened


def render(card: Card) -> str:
    """The card as Markdown with its front matter."""
    front = yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True, width=100)
    parts = [
        f"---\n{front}---",
        _objections(card),
        f"# {card.repository.split('/')[-1]}",
        _what(card),
        _gates(card),
        _quality(card.result),
        "## How to load it\n\n" + _loading(card),
        _exports(card),
        "## What it took\n\n" + _account(card),
        "## Data\n\n" + _data(card),
        "## Recipe\n\nEvery value, defaults too.\n\n" + fenced(recipe(card.spec), "yaml"),
        "## Lineage\n\n" + _lineage(card.lineage),
        "## Licence\n\n" + _licence(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def metadata(card: Card) -> dict[str, Any]:
    """The front matter: what the Hub finds the model by."""
    spec, full = card.spec, card.spec.strategy == "full"
    trainer = ["trl"] if spec.task == "sft" else []
    found: dict[str, Any] = {}
    if card.licence is not None:
        found["license"] = card.licence
    if on_hub(spec):
        found["base_model"] = spec.model.id
        found["base_model_relation"] = "finetune" if full else "adapter"
    found["library_name"] = "transformers" if full else "peft"
    found["pipeline_tag"] = "text-generation" if spec.task == "sft" else "text-classification"
    found["tags"] = [*([] if full else ["peft"]), *trainer, spec.strategy, "loralift"]
    measured = _finite(card.result.metrics.get("tuned", {}))
    if measured:
        found["model-index"] = [
            {
                "name": card.repository.split("/")[-1],
                "results": [
                    {
                        "task": {"type": found["pipeline_tag"]},
                        "dataset": {
                            "name": f"{card.result.evaluated_on} rows of the run, not published",
                            "type": "held-out",
                        },
                        "metrics": [
                            {"type": name, "name": name, "value": value}
                            for name, value in measured.items()
                        ],
                    }
                ],
            }
        ]
    return found


# --- sections -------------------------------------------------------------------------------


def _objections(card: Card) -> str:
    if not card.objections:
        return ""
    lines = "\n".join(f"> - {escape(without_folders(one, card.places))}" for one in card.objections)
    return f"> **Not good by its own gates; published nevertheless.**\n>\n{lines}"


def _what(card: Card) -> str:
    spec = card.spec
    kind = {"qlora": "QLoRA adapter", "lora": "LoRA adapter", "full": "Fine-tuned model"}
    base = f"[{spec.model.id}](https://huggingface.co/{spec.model.id})" if on_hub(spec) else ""
    if spec.model.init == "random":
        base = f"a small random base (`base/`, drawn from seed {spec.seed})"
    text = f"{kind[spec.strategy]} on {base or escape(own_name(spec.model.id))}"
    if spec.strategy != "full":
        text += f", rank {spec.lora.r}, alpha {spec.lora.alpha}"
    if spec.regression is not None:
        names = ", ".join(escape(name) for name in spec.regression.dimensions)
        low, high = spec.regression.low, spec.regression.high
        text += f". It gives a text a score from {low:g} to {high:g} for each of: {names}"
    return f"{text}. Run {escape(card.receipt.run_id)} of Loralift, seed {spec.seed}."


def _gates(card: Card) -> str:
    result, places = card.result, card.places
    lines = [f"- {escape(gate_line(gate))}" for gate in result.gates] or ["- none set"]
    if result.failure is not None:
        said = without_folders(result.failure.message, places)
        lines.append(f"- the run failed: {escape(said)}")
    warnings = (without_folders(warning, places) for warning in result.warnings)
    lines += [f"- warning: {escape(warning)}" for warning in warnings]
    return "## Gates\n\n" + "\n".join(lines)


def _quality(result: Result) -> str:
    if not result.metrics:
        return ""
    rows = [[escape(cell) for cell in row] for row in quality_rows(result)]
    return f"## Base against tuned\n\n{judged_on(result)}.\n\n{table(rows)}"


def _loading(card: Card) -> str:
    spec, here = card.spec, card.repository
    outputs = f", num_labels={len(spec.regression.dimensions)}" if spec.regression else ""
    kind = "SequenceClassification" if spec.regression else "CausalLM"
    tokenizer = "tokenizer = AutoTokenizer.from_pretrained({0})"
    if spec.strategy == "full":
        lines = [
            f"from transformers import AutoModelFor{kind}, AutoTokenizer",
            "",
            f'model = AutoModelFor{kind}.from_pretrained("{here}"{outputs}).eval()',
            tokenizer.format(f'"{here}"'),
        ]
        return fenced("\n".join(lines), "python")
    if on_hub(spec):
        lines = [
            f"from peft import AutoPeftModelFor{kind}",
            "from transformers import AutoTokenizer",
            "",
            f'model = AutoPeftModelFor{kind}.from_pretrained("{here}"{outputs}).eval()',
            tokenizer.format(f'"{here}"'),
        ]
        return fenced("\n".join(lines), "python")
    generated = spec.model.init == "random"
    lines = [
        *(["from huggingface_hub import snapshot_download"] if generated else []),
        "from peft import PeftModel",
        f"from transformers import AutoModelFor{kind}, AutoTokenizer",
        "",
        f'folder = snapshot_download("{here}")' if generated else f'folder = "{here}"',
        f'base = AutoModelFor{kind}.from_pretrained(f"{{folder}}/base"{outputs})'
        if generated
        else f'base = AutoModelFor{kind}.from_pretrained("FOLDER OF THE BASE"{outputs})',
        "model = PeftModel.from_pretrained(base, folder).eval()",
        tokenizer.format("folder"),
    ]
    code = fenced("\n".join(lines), "python")
    if generated:
        return code
    return f"{code}\n\nIts base is not published here: a folder with the hashes under Lineage."


def _exports(card: Card) -> str:
    shipped = [file for file in card.files if file.shipped]
    if not shipped and not card.merged:
        return ""
    lines = ["## Merged and quantised"]
    if card.merged:
        lines.append("`merged/` is the whole tuned model, as Transformers loads it.")
    if shipped:
        rows = [["file", "size", "perplexity", "against f16", *_shown(shipped)]]
        for file in shipped:
            rows.append(
                [
                    escape(file.file),
                    file_size(file.size_bytes),
                    "n/a" if file.perplexity is None else f"{file.perplexity:.4g}",
                    "n/a" if file.perplexity_change is None else f"{file.perplexity_change:+.2%}",
                    *(f"{file.metrics[name]:.3f}" for name in _shown(shipped)),
                ]
            )
        lines.append("Each file was measured itself, through llama.cpp.\n\n" + table(rows))
    return "\n\n".join(lines)


def _shown(files: Sequence[Measured]) -> list[str]:
    """Metrics that every file has."""
    first, *others = files
    return [n for n in first.metrics if n != "loss" and all(n in o.metrics for o in others)]


def _account(card: Card) -> str:
    receipt, spec = card.receipt, card.spec
    lines = {line.name: line for line in receipt.lines}
    cards = f"{spec.processes} × {spec.device}" if spec.processes > 1 else spec.device
    said = [f"- hardware: {escape(receipt.provider)} {escape(receipt.instance)} ({cards})"]
    if "time" in lines and lines["time"].actual is not None:
        said.append(f"- time: {duration(lines['time'].actual)}")
    cap = receipt.max_cost_microusd
    limit = "" if cap is None else f" of a cap of {at_most(cap)}"
    said.append(f"- cost: {dollars(receipt.spent_microusd)}{limit}")
    if "memory" in lines and lines["memory"].actual is not None:
        peak = lines["memory"].actual / 1024**3
        said.append(f"- peak memory: {peak:.2f} GiB ({escape(lines['memory'].note)})")
    return "\n".join(said)


def _data(card: Card) -> str:
    rows = [["set", "file", "rows", "SHA-256"]]
    for name, digest in card.lineage.data_sha256.items():
        file = own_name(getattr(card.spec.data, name, None) or "")
        count = f"{card.rows[name]:,}" if name in card.rows else "not counted"
        rows.append([name, escape(file), count, code(digest)])
    held_out = {n: c for n, c in card.rows.items() if c and n not in card.lineage.data_sha256}
    rows += [[name, "held out of train", f"{count:,}", ""] for name, count in held_out.items()]
    return "The rows themselves are not published.\n\n" + table(rows)


def _lineage(lineage: Lineage) -> str:
    pairs = lineage_pairs(lineage).items()
    lines = [f"- {name}: {code(value)}" for name, value in pairs]
    if lineage.parent is not None:
        parent = lineage.parent
        lines.append(
            f"- went on from {escape(own_name(parent.source))}: {code(parent.adapter_sha256)}"
        )
    versions = ", ".join(f"{escape(n)} {escape(v)}" for n, v in lineage.versions.items())
    lines.append(f"- versions: {versions}")
    return "\n".join(lines) + "\n\n`lineage.json` has the same; `SHA256SUMS` every file's hash."


def _licence(card: Card) -> str:
    said = "Its author names none." if card.licence is None else f"{escape(card.licence)}."
    if on_hub(card.spec):
        base = card.spec.model.id
        said += f" The licence of the base, [{base}](https://huggingface.co/{base}), holds too."
    return said


# --- Markdown -------------------------------------------------------------------------------


def code(text: str) -> str:
    """A code span, in which nothing is markup but its own end, and entities are none."""
    return f"`{' '.join(text.replace('`', '').split())}`"


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first row its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    found = {" ".join(name.split()): value for name, value in metrics.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}
