"""Whole plans through the command: the cheapest fitting card, this machine first, and ways out."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import LAUNCH, Command

SEVEN = "Qwen/Qwen2.5-7B-Instruct"
CLOUDS = [word for name in ("runpod", "aws", "lambda", "gcp") for word in ("--on", name)]


def planned(launch: Command, *arguments: str, code: int = 0, **variables: str) -> dict[str, Any]:
    """`launch --dry-run --json` as people with these variables would see it."""
    environment = {k: v for k, v in launch.environment.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [*LAUNCH, *arguments, "--dry-run", "--json"],
        cwd=launch.folder,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def of(plan: dict[str, Any], provider: str, card: str) -> dict[str, Any]:
    return next(
        c
        for c in plan["candidates"]
        if (c["offer"]["provider"], c["offer"]["device"]["name"]) == (provider, card)
    )


def with_card(nvml: Path, name: str, total: int, used: int, processes: int = 0) -> dict[str, str]:
    found = f"NVIDIA GeForce {name}|{total}|{used}|8.9|{processes}"
    return {"LD_LIBRARY_PATH": str(nvml), "NVML_CARDS": found}


def test_the_cheapest_fitting_card_of_four_clouds(launch: Command) -> None:
    plan = planned(launch, "--model", SEVEN, "--strategy", "qlora", "--max-cost", "10", *CLOUDS)
    for provider, card in (("runpod", "RTX4090"), ("aws", "A10G"), ("lambda", "A100-40GB")):
        candidate = of(plan, provider, card)
        assert candidate["verdict"] in ("chosen", "possible")
        assert 5 < candidate["estimate"]["memory_upper_bytes"] / 2**30 < 22.4
        assert 0 < candidate["expected_microusd"] <= candidate["worst_microusd"] <= 10_000_000
    local = next(c for c in plan["candidates"] if c["offer"]["provider"] == "local")
    assert local["estimate"]["time"]
    assert local["reason"] == "left out by --on or --gpu"
    holding = [c for c in plan["candidates"] if c["verdict"] != "rejected"]
    assert plan["candidates"][0]["verdict"] == "chosen"
    assert holding[0]["expected_microusd"] == min(c["expected_microusd"] for c in holding)


def test_lora_of_7b_fits_24_gb_and_a_larger_batch_does_not(launch: Command) -> None:
    flags = ("--model", SEVEN, "--strategy", "lora", "--max-cost", "100", "--max-hours", "100")
    small = ("--set", "train.seq_len=1024", "--set", "train.micro_batch=1")
    checkpoints = ("--set", "train.activation_checkpointing=true")
    fits = planned(launch, *flags, *small, *checkpoints)
    for provider, card in (("runpod", "RTX4090"), ("aws", "A10G"), ("aws", "L4")):
        assert of(fits, provider, card)["verdict"] in ("chosen", "possible")
    large = ("--set", "train.seq_len=2048", "--set", "train.micro_batch=4")
    plain = ("--set", "train.activation_checkpointing=false")
    refused = planned(launch, *flags, *large, *plain, code=3)
    for provider, card in (("runpod", "RTX4090"), ("aws", "A10G"), ("aws", "L4")):
        candidate = of(refused, provider, card)
        need = candidate["estimate"]["memory_upper_bytes"] / 2**30
        assert candidate["reason"] == f"needs {need:.1f} GiB, 22.4 usable"


def test_a_cap_that_nothing_holds_says_which_would(launch: Command) -> None:
    flags = ("--model", SEVEN, "--strategy", "qlora", "--max-cost")
    plan = planned(launch, *flags, "0.05", code=3)
    assert 1 <= len(plan["ways_out"]) <= 3
    cap = plan["ways_out"][0].split()[1]
    assert plan["ways_out"][0].startswith(f"--max-cost {cap} allows")
    assert planned(launch, *flags, cap)["candidates"][0]["verdict"] == "chosen"


def test_a_card_of_one_s_own_comes_first(launch: Command, nvml: Path) -> None:
    mine = with_card(nvml, "RTX 4080", 16376, 376)
    flags = ("--model", "Qwen/Qwen2.5-1.5B", "--strategy", "qlora", "--max-cost", "10")
    plan = planned(launch, *flags, **mine)
    chosen = plan["candidates"][0]
    assert (chosen["verdict"], chosen["offer"]["provider"]) == ("chosen", "local")
    assert (chosen["offer"]["device"]["name"], chosen["worst_microusd"]) == ("RTX4080", 0)
    whole = ("--model", SEVEN, "--strategy", "lora", "--set", "dtype=fp32", "--max-cost", "10")
    local = of(planned(launch, *whole, **mine), "local", "RTX4080")
    assert local["verdict"] == "rejected"
    need = local["estimate"]["memory_upper_bytes"] / 2**30
    assert local["reason"] == f"needs {need:.1f} GiB, 15.6 free"
    assert need > 28


def test_a_card_in_use_is_refused_with_what_is_free(launch: Command, nvml: Path) -> None:
    busy = with_card(nvml, "RTX 4090", 24564, 20480, 3)
    plan = planned(launch, "--model", SEVEN, "--strategy", "qlora", "--max-cost", "10", **busy)
    local = of(plan, "local", "RTX4090")
    assert local["reason"].endswith(" GiB, 4.0 free")
    assert local["offer"]["note"] == "20.0 GiB in use by 3 processes"
    assert plan["candidates"][0]["offer"]["provider"] != "local"


@pytest.mark.parametrize(
    ("flags", "nearest"),
    [(("--gpu", "RTX4099"), "RTX4090"), (("--on", "runpdo"), "runpod")],
)
def test_an_unknown_name_has_a_nearest(launch: Command, flags, nearest: str) -> None:
    done = launch("--model", SEVEN, "--max-cost", "10", *flags, "--dry-run")
    assert done.returncode == 2
    assert nearest in done.stderr
    assert len(done.stderr.splitlines()) <= 3
