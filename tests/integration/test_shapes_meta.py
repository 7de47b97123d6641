"""Our tensor lists against transformers' classes and PEFT's adapters, on the meta device."""

import json
import os
import subprocess

import msgspec
import pytest

from jobs.spec import SEVEN_PROJECTIONS
from launcher.estimate.shapes import embedded_config, from_config, known_ids

COUNT = """
import json, re, sys, warnings
warnings.filterwarnings("ignore")
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
found = {}
for name, fields in json.load(sys.stdin).items():
    outputs = fields.get("outputs", 0)
    labels = {"num_labels": outputs} if outputs else {}
    config = AutoConfig.for_model(**fields["config"], **labels)
    kind = AutoModelForSequenceClassification if outputs else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
        total = sum(p.numel() for p in model.parameters())
        names = {re.sub(r"\\.[0-9]+\\.", ".*.", n) for n, _ in model.named_parameters()}
        task = "SEQ_CLS" if outputs else "CAUSAL_LM"
        lora = LoraConfig(task_type=task, r=fields["r"], target_modules=fields["targets"])
        model = get_peft_model(model, lora, low_cpu_mem_usage=True)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    found[name] = [total, trainable, sorted(names)]
print(json.dumps(found))
"""

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128,
         "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}  # fmt: skip
ODD = {  # flags that no embedded model sets
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama, silent on kv heads": {"model_type": "llama", "num_key_value_heads": None},
    "qwen3 with biases, untied": {"model_type": "qwen3", "attention_bias": True},
    "gemma2, default head_dim": {"model_type": "gemma2"},
    "gemma3_text with biases": {"model_type": "gemma3_text", "attention_bias": True},
    "smollm3 with biases": {"model_type": "smollm3", "attention_bias": True, "mlp_bias": True},
    "phi3": {"model_type": "phi3"},
    "qwen2 tied": {"model_type": "qwen2", "tie_word_embeddings": True},
}
STUDENTS = ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B", "HuggingFaceTB/SmolLM2-135M")
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def cases() -> dict[str, dict[str, object]]:
    found = {}
    for model_id in known_ids():
        config = embedded_config(model_id)
        if not any(c["config"] == config for c in found.values()):
            found[model_id] = {"config": config, "r": 16, "targets": SEVEN_PROJECTIONS}
    found["phi-4, fused targets"] = {
        "config": embedded_config("microsoft/phi-4"), "r": 8, "targets": FUSED}  # fmt: skip
    for model_id in STUDENTS:
        found[f"{model_id}, 8 scores"] = {
            "config": embedded_config(model_id), "r": 16, "targets": SEVEN_PROJECTIONS,
            "outputs": 8}  # fmt: skip
    for name, flags in ODD.items():
        found[name] = {"config": {**SMALL, **flags}, "r": 4, "targets": ("q_proj", "down_proj")}
    return found


@pytest.fixture(scope="module")
def real(train_python: str) -> dict[str, tuple[int, int, list[str]]]:
    done = subprocess.run(
        [train_python, "-P", "-c", COUNT],
        input=json.dumps(cases()),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return msgspec.json.decode(done.stdout, type=dict[str, tuple[int, int, list[str]]])


@pytest.mark.parametrize("name", cases())
def test_counts_and_names_equal_the_real_model(
    name: str, real: dict[str, tuple[int, int, list[str]]]
) -> None:
    case = cases()[name]
    outputs = case.get("outputs", 0)
    shape = msgspec.structs.replace(from_config(case["config"]), outputs=outputs)
    total, trainable, names = real[name]
    assert shape.parameters == total
    head = shape.head_parameters if outputs else 0  # trained whole, beside the adapters
    assert shape.lora_parameters(case["r"], case["targets"]) + head == trainable
    assert sorted(t.name for t in shape.tensors()) == names
