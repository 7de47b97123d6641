"""QLoRA of low rank misses a gate that 16-bit LoRA passes, for three seeds: the gate is fixed
beforehand, from what full fine-tuning reaches with the same seed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import Command
from tests.integration.conftest import train_python
from tests.integration.test_climb import AN_EPOCH, LOW_RANK

__all__ = ["train_python"]  # the fixture

OF_FULL = 1.5  # times the loss of full fine-tuning


def answer(launch: Command, strategy: str, code: int, **settings: str) -> dict[str, Any]:
    sets = [f"--set={key}={value}" for key, value in settings.items()]
    flags = ("--strategy", strategy, "--on", "local", "--json", *sets)
    done = launch(*flags, timeout=3000)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("seed", ["17", "18", "19"])
def test_rank_1_misses_what_16_bits_pass(seed: str, tmp_path: Path, train_python: str) -> None:
    launch = Command(tmp_path)
    whole = answer(launch, "full", 0, **AN_EPOCH | {"gates": "[]", "seed": seed})
    bound = OF_FULL * whole["result"]["metrics"]["tuned"]["loss"]
    gate = {"gates": f"[{{metric: loss, max: {bound:.4f}}}]", "seed": seed}
    climbed = answer(launch, "qlora", 0, **AN_EPOCH | LOW_RANK | gate)["climb"]
    values = [run["gates"][0]["value"] for run in climbed["runs"]]
    print(seed, f"full {bound / OF_FULL:.3f}", "gate", f"{bound:.3f}", values)
    assert [run["reason"] for run in climbed["runs"]] == ["GATE_FAILED", None]
    assert values[0] > bound >= values[1]
