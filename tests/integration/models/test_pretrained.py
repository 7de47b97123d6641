"""A real pretrained model, SmolLM2-135M-Instruct: fine-tuned with QLoRA, and shipped.

It knows English and nothing of the sample's policies; three of them are what a CPU can teach it in
minutes. `make soak` teaches it all twenty, with LoRA as well.
"""

import json
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.command import Command
from tests.integration.pretrained import smollm2_folder, train

Run = tuple[Command, dict]
# As many steps as twice the rows would make in batches of 8: it is steps that it needs.
SMALL = {"train.epochs": "2", "train.effective_batch": "4", "train.micro_batch": "4"}


@pytest.fixture(scope="module")
def qlora(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> Run:
    launch = Command(tmp_path_factory.mktemp("qlora"))
    return launch, train(launch, smollm2_folder(train_python), "qlora", policies=3, **SMALL)


def test_it_clearly_beats_its_base(qlora: Run) -> None:
    _, answer = qlora
    metrics = answer["result"]["metrics"]
    print(answer["result"]["seconds_by_phase"], json.dumps(metrics, indent=1))
    assert answer["result"]["parameters_total"] == 134_515_008
    assert metrics["base"]["json_citation_rate"] <= 0.1
    assert metrics["tuned"]["json_citation_rate"] >= 0.6
    assert metrics["tuned"]["json_citation_rate"] > 2 * metrics["constant"]["json_citation_rate"]
    assert metrics["tuned"]["loss"] < 0.1 * metrics["base"]["loss"]
    assert (answer["state"], answer["reason"]) == ("SUCCEEDED", None)  # its gate held


def test_its_4_bit_file_answers_is_gated_and_shipped(qlora: Run) -> None:
    launch, answer = qlora
    wanted = ("--to", "gguf:q4_k_m", "--name", "smol", "--json")
    exported = launch("export", answer["run_id"], *wanted, timeout=1200)
    print(exported.stdout[-3000:], exported.stderr[-500:])
    assert exported.returncode == 0, exported.stderr
    home = Path(answer["folder"])
    out = home.with_name(home.name + layout.EXPORT_SUFFIX)
    (file,) = [f for f in json.loads(exported.stdout)["files"] if f["quantization"] == "q4_k_m"]
    assert file["shipped"]
    assert (out / "smol-q4_k_m.gguf").stat().st_size == file["size_bytes"]
    assert file["metrics"]["json_citation_rate"] >= 0.6
    assert [gate["metric"] for gate in file["gates"]] == ["json_citation_rate"]
