"""SmolLM2-135M-Instruct on the whole sample task, in both strategies, to the sample's gates."""

import json
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.command import Command
from tests.integration.conftest import train_python
from tests.integration.pretrained import smollm2_folder, train

__all__ = ["train_python"]  # the fixture

GATES = "[{metric: json_citation_rate, min: 0.9}, {metric: refusal_precision, min: 0.85}]"


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_it_reaches_the_sample_s_gates_and_ships(
    strategy: str, tmp_path: Path, train_python: str
) -> None:
    launch = Command(tmp_path)
    more = {"gates": GATES, "eval.limit": "40"}
    answer = train(launch, smollm2_folder(train_python), strategy, policies=20, **more)
    print(strategy, json.dumps(answer["result"]["metrics"], indent=1))
    assert answer["reason"] is None, answer["message"]
    exported = launch("export", answer["run_id"], "--to", "gguf:q4_k_m", timeout=3000)
    print(exported.stdout, exported.stderr)
    assert exported.returncode == 0
    home = Path(answer["folder"])
    assert list(home.with_name(home.name + layout.EXPORT_SUFFIX).glob("*q4_k_m.gguf"))
