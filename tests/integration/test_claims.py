"""What people write about memory, held against `launch estimate`, to the byte.

The claims are from documents of people who trained such models; the figures that they are held
against are the terms that the command prints.
"""

import json
from typing import Any

import pytest

from tests.integration.command import Command

GB, MIB = 10**9, 1024**2
SMALL, SEVEN = "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B"


def candidates(launch: Command, *arguments: str) -> list[dict[str, Any]]:
    done = launch("estimate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["candidates"]
    return [c for c in found if not c["reason"].startswith("left out by")]


def term(candidate: dict[str, Any], name: str) -> int:
    sizes: dict[str, int] = {t["name"]: t["bytes"] for t in candidate["estimate"]["memory"]}
    return sizes[name]


@pytest.mark.parametrize(
    ("model", "dtype", "claimed_gb", "real"),
    [
        (SMALL, "fp32", 3, 6_174_857_216),  # "~3GB in FP32": that is 16 bits
        (SMALL, "bf16", 3, 3_087_428_608),
        (SEVEN, "fp32", 15, 30_462_466_048),  # "7.6 billion (~15GB in FP32)"
        (SEVEN, "bf16", 15, 15_231_233_024),
    ],
)
def test_the_weights_to_the_byte(launch: Command, model, dtype, claimed_gb, real) -> None:
    flags = ("--model", model, "--strategy", "lora", "--set", f"dtype={dtype}", "--gpu", "H100")
    card = next(c for c in candidates(launch, *flags) if c["estimate"])
    assert term(card, "base weights") == real
    assert (abs(real / (claimed_gb * GB) - 1) < 0.05) == (dtype == "bf16")


def test_16_bit_lora_of_7b_does_not_need_an_a100(launch: Command) -> None:
    """ "28-32 GB, A100 80 GB only": at 1 x 1024 with checkpoints a 24 GB card does."""
    flags = ("--model", SEVEN, "--strategy", "lora", "--seq-len", "1024", "--micro-batch", "1")
    (card, *_) = candidates(launch, *flags, "--gpu", "A10G", "--max-cost", "10")
    assert card["verdict"] == "chosen"
    assert card["estimate"]["memory_upper_bytes"] <= 22_888 * MIB
    assert card["offer"]["device"]["usable_bytes"] <= 22_888 * MIB + MIB
    larger = ("--set", "train.micro_batch=4", "--set", "train.activation_checkpointing=false")
    wide = candidates(launch, *flags[:4], "--seq-len", "2048", *larger, "--gpu", "A10G")
    assert all("needs" in c["reason"] for c in wide if not c["offer"]["spot"])


def test_4_and_8_bits_run_on_a_cpu(launch: Command) -> None:
    """ "bitsandbytes needs CUDA": it has kernels for CPUs since."""
    flags = ("--model", "Qwen/Qwen2.5-0.5B", "--strategy", "qlora", "--seq-len", "256")
    eight = ("--set", "train.optimizer=paged_adamw_8bit", "--max-hours", "1000", "--gpu", "cpu")
    (cpu,) = candidates(launch, *flags, *eight)
    assert cpu["estimate"]["memory_upper_bytes"] < 8 * GB
    assert cpu["spec"]["quantization"]["kind"] == "nf4"


def test_qlora_is_not_always_the_smaller(launch: Command) -> None:
    """ "QLoRA: 63 % less": of a 7B's least memory, yes; of a small model on a full card, hardly."""

    def least(model: str, strategy: str, *more: str) -> int:
        found = candidates(launch, "--model", model, "--strategy", strategy, *more, "--gpu", "H100")
        return min(c["least_bytes"] for c in found if c["estimate"])

    seven = least(SEVEN, "qlora") / least(SEVEN, "lora")
    batch = ("--micro-batch", "8", "--set", "train.activation_checkpointing=false")
    small = least("Qwen/Qwen2.5-0.5B", "qlora", *batch) / least("Qwen/Qwen2.5-0.5B", "lora", *batch)
    assert seven < 0.5
    assert small > 0.9


def test_the_small_machine_s_model_is_named_right(launch: Command) -> None:
    """ "0.5B: 3.5 GB of 4.5; 1.5B: 6 GB and more"."""
    half = candidates(launch, "low-ram")[0]["estimate"]
    assert half["memory_expected_bytes"] < 3.5 * GB < half["memory_upper_bytes"] < 4.5 * GB
    larger = candidates(launch, "low-ram", "--model", SMALL)[0]["estimate"]
    assert larger["memory_expected_bytes"] > 6 * GB
