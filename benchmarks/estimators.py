"""Our memory estimate, a peer's and two rules of thumb, against published peaks, and against those
of docs/measured.

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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import fit_card
from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from benchmarks.vram_residuals import group_of
from jobs.spec import ResolvedSpec
from launcher.display.tables import table
from launcher.estimate.evidence import MEASURED
from launcher.estimate.moments import Loss
from launcher.estimate.tensors import ModelShape
from launcher.estimate.vram import memory
from launcher.types import GIB, Device

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).with_name("estimators_peer.py")
# What people reckon with: 16-bit weights and a fifth more; four times the weights' bytes.
RULES = {"weights x 1.2": 1.2, "weights x 4": 4.0}


class Case(NamedTuple):
    """One peak that somebody measured, and what it is of."""

    group: str
    shape: ModelShape
    spec: ResolvedSpec
    device: Device
    loss: Loss
    gpu: str
    measured: float  # GiB


def published() -> Iterator[Case]:
    """These runs took transformers' plain loss."""
    for row in filter(expressible, rows("vram_measured_dev.csv")):
        yield Case(
            group=group_of(row),
            shape=SHAPES[row["model"]],
            spec=spec_of(row),
            device=card_of(row),
            loss="plain",
            gpu=row["gpu"],
            measured=float(row["peak_gib_per_gpu"]),
        )


def measured() -> Iterator[Case]:
    """Our own job with adapters on a card: what it reserved, with the context."""
    for card in MEASURED:
        for row in fit_card.read(ROOT / "docs" / "measured" / f"{card}.csv"):
            adapters = row.spec.strategy != "full" and row.spec.regression is None
            if row.ran and row.granted is None and adapters:
                yield Case(
                    group=f"{card} · {row.spec.strategy} · reserved and context · exact length",
                    shape=row.shape,
                    spec=row.spec,
                    device=row.device,
                    loss="chunked",
                    gpu=card,
                    measured=(row.reserved + row.context) / GIB,
                )


def ours(case: Case) -> float:
    """GiB expected on the card."""
    found = memory(case.shape, case.spec, case.device, loss=case.loss)
    return found.expected_bytes / GIB


def by_rule(case: Case, factor: float) -> float:
    """GiB; a weight is 2 bytes, or half a byte in 4 bits."""
    width = 2.0 if case.spec.quantization is None else 0.5
    return factor * width * case.shape.parameters / GIB


def request_of(case: Case) -> dict[str, object]:
    """A case in the peer's words."""
    shape, spec = case.shape, case.spec
    return {
        "model": {
            "name": spec.model.id,
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
        "gpu": case.gpu,
    }


def peers(python: str, some: list[Case]) -> list[float]:
    done = subprocess.run(
        [python, str(PEER)],
        input=json.dumps([request_of(case) for case in some]),
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
    some = [*published(), *measured()]
    estimates = {"ours": [ours(case) for case in some]}
    if sys.argv[1:]:
        estimates["fitcheck-llm"] = peers(sys.argv[1], some)
    for name, factor in RULES.items():
        estimates[name] = [by_rule(case, factor) for case in some]
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, case in enumerate(some):
        for name, found in estimates.items():
            groups[case.group][name].append(found[i] / case.measured - 1)
    lines = [["source", "rows", *estimates]]
    for group, errors in groups.items():
        lines.append([group, str(len(errors["ours"])), *(cell(errors[n]) for n in estimates)])
    print("median error, and the worst with its sign: below 0 is too little memory")
    print(table(lines, right=range(1, len(lines[0]))), end="")


if __name__ == "__main__":
    main()
