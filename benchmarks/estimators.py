"""Our memory estimate, a peer's and two rules of thumb, against published peaks.

    .venv/bin/python -m benchmarks.estimators [PEER_PYTHON]

PEER_PYTHON is an interpreter that has fitcheck-llm (`pip install fitcheck-llm==0.3.1` in a virtual
environment of its own); without one its column is left out. All estimate what a card must hold,
CUDA context and allocator included. Peaks come from different counters, so errors are listed by
source and never pooled: median of |estimate / measured - 1|, and the worst with its sign.
"""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from benchmarks.vram_residuals import group_of
from launcher.display.tables import table
from launcher.estimate.vram import memory
from launcher.types import GIB

PEER = Path(__file__).with_name("estimators_peer.py")
# What people reckon with: 16-bit weights and a fifth more; four times the weights' bytes.
RULES = {"weights x 1.2": 1.2, "weights x 4": 4.0}


def ours(row: dict[str, str]) -> float:
    """GiB expected on the card; the published runs took transformers' plain loss."""
    found = memory(SHAPES[row["model"]], spec_of(row), card_of(row), loss="plain")
    return found.expected_bytes / GIB


def by_rule(row: dict[str, str], factor: float) -> float:
    """GiB; a weight is 2 bytes, or half a byte in 4 bits."""
    width = 2.0 if row["quant"] == "none" else 0.5
    return factor * width * SHAPES[row["model"]].parameters / GIB


def request_of(row: dict[str, str]) -> dict[str, object]:
    """A row in the peer's words."""
    shape, spec = SHAPES[row["model"]], spec_of(row)
    return {
        "model": {
            "name": row["model"],
            "num_params": shape.parameters,
            "hidden_size": shape.hidden_size,
            "num_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_kv_heads": shape.kv_heads,
            "intermediate_size": shape.intermediate_size,
            "vocab_size": shape.vocab_size,
            "head_dim": shape.head_dim,
            "tie_word_embeddings": shape.tied,
        },
        "training": {
            "precision": spec.dtype,
            "quantization": "nf4" if spec.quantization is not None else "none",
            "double_quant": spec.quantization is not None,
            "optimizer": "adamw8bit" if "8bit" in spec.train.optimizer else "adamw",
            "batch_size": spec.train.micro_batch,
            "seq_len": spec.train.seq_len,
            "lora_rank": spec.lora.r,
            "lora_targets": list(spec.lora.targets),
            "grad_checkpoint": spec.train.activation_checkpointing,
            "flash_attn": True,
        },
        "gpu": row["gpu"],
    }


def peers(python: str, some: list[dict[str, str]]) -> list[float]:
    done = subprocess.run(
        [python, str(PEER)],
        input=json.dumps([request_of(row) for row in some]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[float] = json.loads(done.stdout)
    return found


def cell(errors: list[float]) -> str:
    worst = max(errors, key=abs)
    return f"{statistics.median(map(abs, errors)):.0%} ({worst:+.0%})"


def main() -> None:
    some = [row for row in rows("vram_measured_dev.csv") if expressible(row)]
    estimates = {"ours": [ours(row) for row in some]}
    if sys.argv[1:]:
        estimates["fitcheck-llm"] = peers(sys.argv[1], some)
    for name, factor in RULES.items():
        estimates[name] = [by_rule(row, factor) for row in some]
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, row in enumerate(some):
        measured = float(row["peak_gib_per_gpu"])
        for name, found in estimates.items():
            groups[group_of(row)][name].append(found[i] / measured - 1)
    lines = [["source", "rows", *estimates]]
    for group, errors in groups.items():
        lines.append([group, str(len(errors["ours"])), *(cell(errors[n]) for n in estimates)])
    print("median error, and the worst with its sign: below 0 is too little memory")
    print(table(lines, right=range(1, len(lines[0]))), end="")


if __name__ == "__main__":
    main()
