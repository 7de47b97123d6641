"""Published measurements as specs that our estimates can read; shared by the residual scripts."""

import csv
from pathlib import Path

from jobs.spec import Data, Lora, Model, Quantization, ResolvedSpec, ResolvedTrain
from launcher.estimate.shapes import ModelShape, from_config, shape_of
from launcher.types import GIB, Device

DATA = Path(__file__).parent / "data"
CARDS = {  # dense 16-bit TFLOP/s and GB/s from the makers' data sheets
    "A100 80GB": (312.0, 2039.0),
    "A100-SXM4-80GB": (312.0, 2039.0),
    "A100 40GB": (312.0, 1555.0),
    "RTX 3090 (280W)": (71.0, 936.0),
    "RTX 4090": (165.2, 1008.0),
    "T4 16GB": (65.0, 320.0),
}


def rows(name: str) -> list[dict[str, str]]:
    """All rows of one CSV."""
    with (DATA / name).open(newline="") as f:
        return list(csv.DictReader(f))


def first_qwen(hidden: int, intermediate: int, layers: int, heads: int, vocab: int) -> ModelShape:
    """The first Qwen generation: Qwen2's tensors with fused q, k, v and a head of its own."""
    return from_config(
        {
            "model_type": "qwen2",
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "vocab_size": vocab,
            "tie_word_embeddings": False,
        }
    )


SHAPES = {
    "qwen-1_8b-chat": first_qwen(2048, 5504, 24, 16, 151936),
    "qwen-7b-chat": first_qwen(4096, 11008, 32, 32, 151936),
    "qwen-14b-chat": first_qwen(5120, 13696, 40, 40, 152064),
    "Qwen-1.8B": first_qwen(2048, 5504, 24, 16, 151936),
    "Qwen-7B": first_qwen(4096, 11008, 32, 32, 151936),
    "Qwen-14B": first_qwen(5120, 13696, 40, 40, 152064),
    "Llama-2-7B": shape_of(Model(id="meta-llama/Llama-2-7b-hf"))[0],
    "Mistral-7B": shape_of(Model(id="mistralai/Mistral-7B-v0.1"))[0],
}


def expressible(row: dict[str, str]) -> bool:
    """One card's own work (or replicas of it), LoRA or NF4 QLoRA, a model we know."""
    return (
        row["model"] in SHAPES
        and row["method"] in ("lora", "qlora")
        and row["quant"] in ("none", "nf4 bnb", "int4 (bnb)")
        and (row["n_gpus"] == "1" or "ddp" in row["parallel"])
        and row["framework"] not in ("unsloth open", "unsloth+CCE")
        and "eager" not in row["attn"]
        and row["micro_batch"].isdigit()
        and row["gpu"] in CARDS
    )


def spec_of(row: dict[str, str]) -> ResolvedSpec:
    """The row's settings; its ranks and lengths are the leading numbers of their columns."""
    nf4 = row["quant"] != "none"
    targets = ("q_proj", "k_proj", "v_proj") if "DEFAULT" in row["lora_targets"] else Lora().targets
    return ResolvedSpec(
        run_id="published",
        model=Model(id=row["model"]),
        data=Data(train="published"),
        strategy="qlora" if nf4 else "lora",
        dtype="fp16" if row["dtype"] == "fp16" else "bf16",
        device="cuda",
        quantization=Quantization() if nf4 else None,
        lora=Lora(r=int(row["lora_r"].split()[0]), targets=targets),
        train=ResolvedTrain(
            seq_len=int(row["seq_len"].split()[0]),
            micro_batch=int(row["micro_batch"]),
            activation_checkpointing=row["grad_ckpt"].startswith("yes"),
            optimizer="adamw_8bit" if "8bit" in row["optimizer"] else "adamw_torch",
            packing=False,
        ),
    )


def card_of(row: dict[str, str]) -> Device:
    """The row's card; its capacity plays no part here."""
    tflops, bandwidth = CARDS[row["gpu"]]
    return Device(
        kind="cuda",
        name=row["gpu"],
        usable_bytes=80 * GIB,
        total_bytes=80 * GIB,
        dense_16bit_tflops=tflops,
        bandwidth_gb_s=bandwidth,
    )
