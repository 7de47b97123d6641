"""A real pretrained model, SmolLM2-135M-Instruct: fine-tuned in 4 bits, shipped, asked.

It knows English and nothing of the sample's policies. Short, for a CPU; `make soak` trains longer
and with 16-bit LoRA too.
"""

import json
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.command import ROOT, Command
from tests.integration.pretrained import smollm2_folder

SAMPLE = ROOT / "jobs" / "sample"
SYSTEM = {"role": "system", "content": "Answer in JSON."}
SETTINGS = {
    "lora.dropout": "0.0",
    "train.epochs": "1",
    "train.learning_rate": "1.5e-3",
    "train.seq_len": "96",
    "train.effective_batch": "8",
    "train.micro_batch": "8",
    "train.packing": "false",
    "train.activation_checkpointing": "false",
    "eval.max_new_tokens": "32",
    "eval.limit": "24",
    "eval.batch": "24",
    "gates": "[{metric: json_citation_rate, min: 0.6}]",
}


def data(folder: Path, train_rows: int) -> None:
    for name, count in (("train", train_rows), ("validation", 40)):
        lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines()[:count]
        chats = ({"messages": [SYSTEM, *json.loads(line)["messages"]]} for line in lines)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats))


def train(launch: Command, model: Path, strategy: str, train_rows: int, **more: str) -> dict:
    """One run through `launch`, its answer with --json."""
    data(launch.folder, train_rows)
    settings = {"data.validation": "validation.jsonl"} | SETTINGS | more
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = ("--model", str(model), "--data", "train.jsonl", "--strategy", strategy)
    done = launch(*command, "--on", "local", "--json", *sets, timeout=3000)
    assert done.returncode in (0, 5), done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Command, dict]:
    launch = Command(tmp_path_factory.mktemp("pretrained"))
    return launch, train(launch, smollm2_folder(train_python), "qlora", train_rows=480)


def test_it_clearly_beats_its_base(tuned) -> None:
    _, answer = tuned
    metrics = answer["result"]["metrics"]
    print(json.dumps(metrics, indent=1))
    assert answer["result"]["parameters_total"] == 134_515_008
    assert metrics["base"]["json_citation_rate"] <= 0.1
    assert metrics["tuned"]["json_citation_rate"] >= 0.6
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
