"""Our memory model beside a simulation of the job's own step, storage by storage, without a GPU.

    python -m benchmarks.vram_oracle TRAINING_PYTHON [--write] [CASE …]

Each case is simulated by benchmarks/vram_oracle_child.py in the training environment and compared
with launcher/estimate/vram.py by moment and by term, without the allocator's slack and CUDA's
context, which neither sees. `--write` puts all cases into docs/measured/oracle.csv; cases are
numbers from 0. The two share no formula: one runs the libraries, the other reads their source.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs.spec import (
    Data,
    Evaluation,
    Lora,
    Model,
    Quantization,
    Regression,
    ResolvedSpec,
    ResolvedTrain,
)
from launcher.estimate.shapes import ModelShape, embedded_config, from_config
from launcher.estimate.vram import Loss, Timeline, timeline
from launcher.types import GIB, Device

ROOT = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("vram_oracle_child.py")
CSV = ROOT / "docs" / "measured" / "oracle.csv"
CARD = Device(kind="cuda", name="any", usable_bytes=80 * GIB, total_bytes=80 * GIB)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


class Case(msgspec.Struct, frozen=True):
    """One configuration. The defaults are one row a step, LoRA as recipes have it."""

    model: str
    layers: int  # of the model built; memory is linear in them, so few will do
    strategy: Literal["lora", "qlora", "full"] = "lora"
    rows: int = 1  # micro-batch
    length: int = 1024
    r: int = 16
    checkpointing: bool = True
    packing: bool = False
    loss: Loss = "chunked"
    steps: int = 2  # micro-batches of one optimizer step
    dropout: float = 0.05
    targets: Literal["all", "attention"] = "all"
    outputs: int = 0  # of a regression student
    optimizer: str = "adamw_torch_fused"
    questions: int = 16  # asked at once; for a student, texts that its head is fitted on
    prompt: int = 512  # tokens of the longest
    new_tokens: int = 128

    @property
    def name(self) -> str:
        """What is unlike the defaults."""
        said = [self.model.split("/")[1], f"{self.layers} layers", self.strategy]
        said.append(f"{self.rows}x{self.length} r{self.r}")
        said += ["packed"] if self.packing else []
        said += ["ckpt"] if self.checkpointing else []
        said += [self.loss] if self.loss != "chunked" else []
        said += [f"{self.outputs} scores"] if self.outputs else []
        return " · ".join(said)


QWEN_05, QWEN_15 = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"
QWEN_7, QWEN3 = "Qwen/Qwen2.5-7B", "Qwen/Qwen3-0.6B"
LLAMA_1, LLAMA_3 = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B"
LLAMA_8 = "meta-llama/Llama-3.1-8B"
MISTRAL, PHI = "mistralai/Mistral-7B-v0.3", "microsoft/Phi-3-mini-4k-instruct"
GEMMA, SMOL = "google/gemma-3-1b-pt", "HuggingFaceTB/SmolLM2-135M"
PAGED = "paged_adamw_8bit"

# No Gemma 2: transformers 5.23 has no sdpa for it (modeling_gemma2.py _supports_sdpa), and the job
# asks for sdpa.
CASES = (
    Case(QWEN_05, 24),
    Case(QWEN_05, 24, "qlora", 4, 1024, packing=True, optimizer=PAGED),
    Case(QWEN_05, 4, rows=4, length=512, checkpointing=False),
    Case(QWEN_05, 4, rows=1, length=4096, r=64, packing=True, questions=1, prompt=2048),
    Case(QWEN_05, 6, "full", 1, 512, optimizer="adamw_torch"),
    Case(QWEN_05, 6, "full", 2, 1024, steps=1),
    Case(QWEN_05, 4, "full", 2, 512, checkpointing=False),
    Case(QWEN_05, 24, loss="plain", dropout=0.0),
    Case(QWEN_15, 4, rows=8, length=512),
    Case(QWEN_15, 28, "qlora", 1, 2048, packing=True, optimizer=PAGED, prompt=64, new_tokens=512),
    Case(QWEN_15, 4, "qlora", 2, 1024, checkpointing=False, dropout=0.0),
    Case(QWEN_15, 4, rows=2, length=2048, loss="plain", checkpointing=False),
    Case(QWEN_7, 28, "qlora", 1, 2048, packing=True, optimizer=PAGED),
    Case(QWEN_7, 4, rows=4, length=2048, r=8),
    Case(QWEN_7, 4, rows=1, length=1024, checkpointing=False, steps=1),
    Case(QWEN_7, 4, "qlora", 1, 4096, r=32, packing=True),
    Case(QWEN_7, 4, rows=4, length=2048, loss="plain", dropout=0.0),
    Case(LLAMA_1, 16, rows=2, length=512, questions=4, prompt=1024),
    Case(LLAMA_1, 1, rows=4, length=512, checkpointing=False),
    Case(LLAMA_1, 4, "qlora", 4, 256, r=4, optimizer="adamw_8bit"),
    Case(LLAMA_1, 4, "full", 1, 1024, optimizer="adamw_torch", packing=True),
    Case(LLAMA_1, 4, rows=8, length=256, checkpointing=False, packing=True),
    Case(LLAMA_8, 32, "qlora", 1, 1024, checkpointing=False, prompt=1024, new_tokens=256),
    Case(LLAMA_8, 4, rows=1, length=4096),
    Case(LLAMA_8, 4, rows=8, length=2048, r=64, packing=False),
    Case(MISTRAL, 32, "qlora", 2, 2048, questions=1, prompt=2048),
    Case(MISTRAL, 4, "full", 1, 1024),
    Case(MISTRAL, 4, rows=1, length=2048, checkpointing=False, targets="attention"),
    Case(MISTRAL, 4, "qlora", 4, 512, r=64, dropout=0.0, optimizer="adamw_8bit"),
    Case(GEMMA, 26, rows=1, length=512),
    Case(GEMMA, 6, "qlora", 2, 1024, checkpointing=False, optimizer=PAGED),
    Case(GEMMA, 6, "full", 1, 512, optimizer="adamw_torch"),
    Case(PHI, 4, rows=2, length=1024),
    Case(PHI, 4, "qlora", 1, 2048, checkpointing=False, questions=1),
    Case(SMOL, 30, rows=4, length=512, prompt=32, new_tokens=512),
    Case(SMOL, 30, "full", 8, 256, checkpointing=False, steps=1),
    Case(SMOL, 6, rows=8, length=1024, r=8, dropout=0.0, checkpointing=False),
    Case(QWEN3, 28, rows=1, length=1024),
    Case(QWEN3, 4, "qlora", 4, 1024, checkpointing=False, packing=True, optimizer=PAGED),
    Case(QWEN3, 4, "full", 1, 256, checkpointing=False, steps=1),
    Case(LLAMA_8, 4, "qlora", 2, 512, targets="attention"),
    Case(PHI, 6, "full", 1, 2048, packing=True),
    Case(GEMMA, 8, "qlora", 2, 1024, packing=True),
    Case(GEMMA, 6, length=2048, checkpointing=False, prompt=64, new_tokens=960),
    Case(PHI, 4, "qlora", 1, 2048, questions=4, prompt=256, new_tokens=2048),
    Case(LLAMA_3, 6, rows=1, length=256, steps=1),
    Case(SMOL, 30, "full", 1, 128, outputs=4, checkpointing=False),
    Case(QWEN_15, 4, rows=8, length=512, outputs=8),
    Case(QWEN_15, 4, "qlora", 4, 512, outputs=8, checkpointing=False, optimizer=PAGED),
)


def config_of(case: Case) -> dict[str, Any]:
    return {**(embedded_config(case.model) or {}), "num_hidden_layers": case.layers}


def shape_of(case: Case) -> ModelShape:
    return msgspec.structs.replace(from_config(config_of(case)), outputs=case.outputs)


def spec_of(case: Case) -> ResolvedSpec:
    lora = Lora(r=case.r, dropout=case.dropout)
    if case.targets == "attention":
        lora = msgspec.structs.replace(lora, targets=ATTENTION)
    train = {
        "seq_len": case.length,
        "micro_batch": case.rows,
        "effective_batch": case.rows * case.steps,
        "activation_checkpointing": case.checkpointing,
        "packing": case.packing,
        "optimizer": case.optimizer,
    }
    names = tuple(f"d{i}" for i in range(case.outputs))
    return ResolvedSpec(
        run_id="oracle",
        task="regression" if names else "sft",
        regression=Regression(dimensions=names) if names else None,
        model=Model(id=case.model),
        data=Data(train="random"),
        strategy=case.strategy,
        dtype="bf16",
        device="cuda",
        quantization=Quantization() if case.strategy == "qlora" else None,
        lora=lora,
        train=msgspec.convert(train, ResolvedTrain),
        eval=Evaluation(batch=case.questions, max_new_tokens=case.new_tokens),
    )


def simulate(python: str, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
    """What the child finds, case by case. Raises SystemExit with its words when it fails."""
    asked = [
        {
            "config": config_of(c),
            "job": msgspec.to_builtins(spec_of(c)),
            "loss": c.loss,
            "prompt": c.prompt,
        }
        for c in cases
    ]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    with subprocess.Popen(
        [python, "-P", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for one in asked:
            print(json.dumps(one), file=child.stdin, flush=True)
            line = child.stdout.readline()
            if not line:
                raise SystemExit(f"the simulation ended with {child.wait()}")
            yield json.loads(line)
        child.stdin.close()


# What is compared: the peak, the moments, and the terms, each by the key of both answers.
TERMS = (
    "quantised weights", "quantisation state", "other weights", "adapters", "optimizer state",
    "gradients", "saved activations", "forward", "loss", "last norm", "last layer", "layers",
    "embedding", "optimizer", "evaluation", "prompts", "last token", "head", "peak",
)  # fmt: skip


def timeline_of(case: Case) -> Timeline:
    return timeline(shape_of(case), spec_of(case), CARD, prompt_tokens=case.prompt, loss=case.loss)


def modelled(case: Case, line: Timeline) -> dict[str, int]:
    """Our model's bytes by term, in the simulation's words; 0 where it does not model one.

    The forward pass is modelled where layers keep what they made; the layers before the last where
    they can be the peak: with checkpoints, and gradients that only come as they are made.
    """
    standing = {t.name: t.bytes for t in line.standing}
    moments = {m.name: m.bytes for m in line.moments}
    quantised = "quantisation state" in standing
    scratch = [m.own for m in line.moments if m.name == "optimizer's scratch"]
    return {
        "quantised weights": standing["base weights"] if quantised else 0,
        "quantisation state": standing.get("quantisation state", 0),
        "other weights": standing["unquantised parts" if quantised else "base weights"],
        "adapters": standing.get("adapters", 0),
        "optimizer state": standing["optimizer state"],
        "gradients": line.gradients,
        "saved activations": line.through,
        "forward": moments.get("forward", 0),
        "loss": moments["loss"],
        "last norm": moments["last norm"],
        "last layer": moments["one layer at work"],
        "layers": moments.get("first layer", 0) if case.checkpointing else 0,
        "embedding": moments.get("embedding's gradient", 0),
        "optimizer": sum(scratch),
        "evaluation": moments["evaluation"],
        "prompts": moments.get("prompts", 0),
        "last token": moments.get("last token", 0),
        "head": moments.get("fitting the head", 0),
        "peak": sum(standing.values()) + max(moments.values()),
    }


def residuals(found: dict[str, Any], model: dict[str, int]) -> dict[str, float]:
    """Ours / simulated - 1 of each term that both have."""
    return {t: model[t] / found[t] - 1 for t in TERMS if found[t] and model[t]}


def row_of(case: Case, found: dict[str, Any], model: dict[str, int]) -> dict[str, Any]:
    simulated = {f"simulated {t}": found[t] for t in TERMS}
    ours = {f"our {t}": model[t] for t in TERMS}
    return {
        **msgspec.structs.asdict(case), "static": found["static"], "moment": found["moment"],
        **simulated, **ours, "residual": f"{model['peak'] / found['peak'] - 1:+.4f}",
        **found["versions"], "date": date.today().isoformat(),
    }  # fmt: skip


def rows() -> list[tuple[Case, dict[str, int]]]:
    """The cases of the committed file, with what was simulated."""
    with CSV.open(newline="") as f:
        return [
            (
                msgspec.convert({n: row[n] for n in Case.__struct_fields__}, Case, strict=False),
                {t: int(row[f"simulated {t}"]) for t in TERMS},
            )
            for row in csv.DictReader(f)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("cases", nargs="*", type=int)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    chosen = [CASES[n] for n in options.cases] or list(CASES)
    written, all_residuals = [], []
    for case, found in zip(chosen, simulate(options.python, chosen), strict=True):
        model = modelled(case, timeline_of(case))
        written.append(row_of(case, found, model))
        off = residuals(found, model)
        all_residuals.append(off)
        print(
            f"{CASES.index(case):2d} {case.name:62s} static {found['static'] / GIB:6.2f}"
            f"  peak {found['peak'] / GIB:6.2f} ({found['moment']})"
            f"  ours {model['peak'] / GIB:6.2f}  {off['peak']:+.1%}   "
            + "  ".join(f"{t} {off[t]:+.1%}" for t in TERMS[5:-1] if t in off),
            flush=True,
        )
    for term in TERMS:
        values = [abs(off[term]) for off in all_residuals if term in off]
        if values:
            print(f"{term:20s} median {statistics.median(values):.2%}  worst {max(values):.2%}")
    if options.write:
        CSV.parent.mkdir(exist_ok=True)
        with CSV.open("w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(written[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(written)


if __name__ == "__main__":
    main()
