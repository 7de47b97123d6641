"""A real pretrained model, SmolLM2-135M-Instruct: fine-tuned in 4 bits, shipped, asked.

It knows English and nothing of the sample's policies. Short, for a CPU; `make soak` trains longer
and with 16-bit LoRA too.
"""

import json
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.command import Command
from tests.integration.pretrained import smollm2_folder, train


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Command, dict]:
    launch = Command(tmp_path_factory.mktemp("pretrained"))
    return launch, train(launch, smollm2_folder(train_python), "qlora", policies=6)


def test_it_clearly_beats_its_base(tuned) -> None:
    _, answer = tuned
    metrics = answer["result"]["metrics"]
    print(json.dumps(metrics, indent=1))
    assert answer["result"]["parameters_total"] == 134_515_008
    assert metrics["base"]["json_citation_rate"] <= 0.1
    assert metrics["tuned"]["json_citation_rate"] >= 0.6
    assert metrics["tuned"]["json_citation_rate"] > metrics["constant"]["json_citation_rate"]
    assert metrics["tuned"]["loss"] < 0.2 * metrics["base"]["loss"]
    assert answer["state"] == "SUCCEEDED"
    assert answer["reason"] is None


def test_its_4_bit_file_is_gated_and_shipped(tuned) -> None:
    launch, answer = tuned
    exported = launch(
        "export", answer["run_id"], "--to", "gguf:q4_k_m", "--name", "smol", "--json", timeout=1200
    )
    print(exported.stdout[-3000:], exported.stderr[-500:])
    assert exported.returncode == 0, exported.stderr
    home = Path(answer["folder"])
    out = home.with_name(home.name + layout.EXPORT_SUFFIX)
    (file,) = [f for f in json.loads(exported.stdout)["files"] if f["quantization"] == "q4_k_m"]
    assert file["shipped"]
    assert (out / "smol-q4_k_m.gguf").stat().st_size == file["size_bytes"]
    assert file["metrics"]["json_citation_rate"] >= 0.6
    assert [gate["metric"] for gate in file["gates"]] == ["json_citation_rate"]
