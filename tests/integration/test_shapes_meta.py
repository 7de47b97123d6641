"""Our tensor lists against transformers' classes and PEFT's adapters, on the meta device.

Every model is built whole once, with one set of targets; every set of targets is put onto a model
of two layers of each family.
"""

import json
import os
import subprocess
from typing import Any

import msgspec
import pytest

from jobs.spec import SEVEN_PROJECTIONS
from launcher.errors import BadInput
from launcher.estimate.shapes import ModelShape, embedded_config, from_config, known_ids

COUNT = """
import json, re, sys, warnings
warnings.filterwarnings("ignore")
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
found = {}
for name, case in json.load(sys.stdin).items():
    outputs = case["outputs"]
    labels = {"num_labels": outputs} if outputs else {}
    config = AutoConfig.for_model(**case["config"], **labels)
    kind = AutoModelForSequenceClassification if outputs else AutoModelForCausalLM
    tensors, trainable = {}, []
    with torch.device("meta"):
        for targets in case["target_sets"]:
            model = kind.from_config(config)
            if not tensors:
                for path, parameter in model.named_parameters():
                    row = re.sub(r"\\.[0-9]+\\.", ".*.", path)
                    tensors.setdefault(row, [list(parameter.shape), 0])[1] += 1
            lora = LoraConfig(
                task_type="SEQ_CLS" if outputs else "CAUSAL_LM",
                r=case["r"],
                target_modules=targets,
                exclude_modules=r".*vision_tower.*" if "vision_config" in case["config"] else None,
            )
            model = get_peft_model(model, lora, low_cpu_mem_usage=True)
            trainable.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    found[name] = [tensors, trainable]
print(json.dumps(found))
"""

QUANTISED = """
import json, re, sys, tempfile, warnings
warnings.filterwarnings("ignore")
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
found = {}
for name, config in json.load(sys.stdin).items():
    with tempfile.TemporaryDirectory() as folder:
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        built.save_pretrained(folder)
        nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=nf4, device_map={"": "cpu"})
    found[name] = sorted({
        re.sub(r"\\.[0-9]+\\.", ".*.", path)
        for path, parameter in model.named_parameters() if hasattr(parameter, "quant_state")})
print(json.dumps(found))
"""

# Public models that are not embedded, from their config.json.
PUBLIC = {
    "01-ai/Yi-6B": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 4,
        "vocab_size": 64000},
    "codellama/CodeLlama-34b-hf": {
        "model_type": "llama", "hidden_size": 8192, "intermediate_size": 22016,
        "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 8,
        "vocab_size": 32000},
    "mistralai/Codestral-22B-v0.1": {
        "model_type": "mistral", "hidden_size": 6144, "intermediate_size": 16384,
        "num_hidden_layers": 56, "num_attention_heads": 48, "num_key_value_heads": 8,
        "vocab_size": 32768, "head_dim": 128},
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": {
        "model_type": "qwen3_moe", "hidden_size": 6144, "intermediate_size": 8192,
        "moe_intermediate_size": 2560, "num_hidden_layers": 62, "num_attention_heads": 96,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "num_experts": 160,
        "num_experts_per_tok": 8},
    "databricks/dolly-v2-3b": {
        "model_type": "gpt_neox", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 50280},
    "tiiuae/falcon-rw-1b": {
        "model_type": "falcon", "hidden_size": 2048, "num_hidden_layers": 24,
        "num_attention_heads": 32, "vocab_size": 50304, "alibi": True, "bias": True,
        "multi_query": False, "parallel_attn": False, "new_decoder_architecture": False},
    "tiiuae/falcon-11B": {
        "model_type": "falcon", "hidden_size": 4096, "ffn_hidden_size": 16384,
        "num_hidden_layers": 60, "num_attention_heads": 32, "num_kv_heads": 8,
        "vocab_size": 65024, "new_decoder_architecture": True, "parallel_attn": True,
        "num_ln_in_parallel_attn": 1, "tie_word_embeddings": False},
    "tiiuae/falcon-180B": {
        "model_type": "falcon", "hidden_size": 14848, "num_hidden_layers": 80,
        "num_attention_heads": 232, "num_kv_heads": 8, "vocab_size": 65024,
        "new_decoder_architecture": True, "parallel_attn": True},
}  # fmt: skip

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128,
         "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}  # fmt: skip
MIXTURE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48,
          "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
          "vision_use_head": False}  # fmt: skip
FAMILIES = {
    "llama": {**SMALL, "model_type": "llama"},
    "mistral": {**SMALL, "model_type": "mistral"},
    "mixtral": {**SMALL, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2": {**SMALL, "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {**SMALL, "model_type": "qwen3"},
    "qwen3_moe": {**SMALL, **MIXTURE, "model_type": "qwen3_moe", "head_dim": 32},
    "gemma": {**SMALL, "model_type": "gemma"},
    "gemma2": {**SMALL, "model_type": "gemma2"},
    "gemma3_text": {**SMALL, "model_type": "gemma3_text"},
    "gemma3": {"model_type": "gemma3", "vision_config": SIGLIP,
               "text_config": {**SMALL, "model_type": "gemma3_text", "num_attention_heads": 8}},
    "phi3": {**SMALL, "model_type": "phi3"},
    "smollm3": {**SMALL, "model_type": "smollm3"},
    "gpt_neox": {**SMALL, "model_type": "gpt_neox"},
    "falcon": {**SMALL, "model_type": "falcon"},
    "falcon, new": {**SMALL, "model_type": "falcon", "new_decoder_architecture": True,
                    "num_kv_heads": 2},
}  # fmt: skip
ODD = {  # flags that no public model above sets
    "llama with biases": {
        **FAMILIES["llama"], "attention_bias": True, "mlp_bias": True},
    "llama, silent on kv heads": {**FAMILIES["llama"], "num_key_value_heads": None},
    "qwen3 with biases": {**FAMILIES["qwen3"], "attention_bias": True},
    "qwen3_moe with biases, as transformers 5 writes it": {
        **SMALL, "model_type": "qwen3_moe", "num_local_experts": 4, "num_experts_per_tok": 4,
        "moe_intermediate_size": 48, "attention_bias": True},
    "gemma with biases": {**FAMILIES["gemma"], "attention_bias": True},
    "gemma3_text with biases": {**FAMILIES["gemma3_text"], "attention_bias": True},
    "gemma3, silent on heads": {
        "model_type": "gemma3", "vision_config": SIGLIP,
        "text_config": {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96,
                        "num_hidden_layers": 2}},
    "smollm3 with biases": {
        **FAMILIES["smollm3"], "attention_bias": True, "mlp_bias": True},
    "gpt_neox, tied, no attention bias": {
        **FAMILIES["gpt_neox"], "attention_bias": False, "tie_word_embeddings": True},
    "falcon, one after the other, many key heads": {
        **FAMILIES["falcon"], "multi_query": False, "parallel_attn": False, "bias": True,
        "num_kv_heads": 2},
    "falcon, new, one norm": {
        **FAMILIES["falcon, new"], "num_ln_in_parallel_attn": 1, "bias": True},
}  # fmt: skip
STUDENTS = ("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B", "HuggingFaceTB/SmolLM2-135M")

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
TARGET_SETS = {
    "split": (SEVEN_PROJECTIONS, ("q_proj", "v_proj"), ("gate_proj", "up_proj", "down_proj"),
              ("o_proj", "no_such_layer")),
    "phi3": (SEVEN_PROJECTIONS, ("qkv_proj",), ("gate_up_proj", "down_proj"),
             ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "mixtral": (SEVEN_PROJECTIONS, ATTENTION, ("w1", "w2", "w3"), ("w2",), ("gate",),
                ("q_proj", "gate", "gate_up_proj")),
    "qwen3_moe": (SEVEN_PROJECTIONS, ATTENTION, ("gate_proj", "up_proj"), ("down_proj",),
                  ("gate",), ("q_proj", "gate_up_proj")),
    "gpt_neox": (NEOX, ("query_key_value",), NEOX[2:], ("dense", "q_proj")),
    "falcon": (NEOX, ("query_key_value",), NEOX[2:], ("dense", "q_proj")),
}  # fmt: skip
ALL_LINEAR = "all-linear"  # PEFT's own word, held against all that we say can be named


class Case(msgspec.Struct):
    config: dict[str, Any]
    target_sets: tuple[tuple[str, ...] | str, ...]
    r: int = 16
    outputs: int = 0

    def shape(self) -> ModelShape:
        return msgspec.structs.replace(from_config(self.config), outputs=self.outputs)


def target_sets(config: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    return TARGET_SETS.get(config["model_type"], TARGET_SETS["split"])


def cases() -> dict[str, Case]:
    configs: dict[str, dict[str, Any]] = {}
    for model_id in known_ids():
        config = embedded_config(model_id)
        assert config is not None
        if config not in configs.values():
            configs[model_id] = config
    configs |= PUBLIC | ODD
    found = {}
    for i, (name, config) in enumerate(configs.items()):
        sets = target_sets(config)
        found[name] = Case(config, (sets[i % len(sets)],))
    for name, config in FAMILIES.items():
        found[name] = Case(config, (*target_sets(config), ALL_LINEAR), r=3)
    for model_id in STUDENTS:
        config = embedded_config(model_id)
        assert config is not None
        found[f"{model_id}, 8 scores"] = Case(config, (SEVEN_PROJECTIONS,), outputs=8)
    for name in ("gemma3", "gpt_neox", "falcon", "qwen3_moe"):
        sets = target_sets(FAMILIES[name])[:2]
        config = FAMILIES[name] | {"pad_token_id": 0}
        found[f"{name}, 8 scores"] = Case(config, sets, outputs=8)
    return found


CASES = cases()


def run(python: str, script: str, given: object) -> bytes:
    done = subprocess.run(
        [python, "-P", "-c", script],
        input=msgspec.json.encode(given),
        capture_output=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.splitlines()[-1]


Tensors = dict[str, tuple[tuple[int, ...], int]]


@pytest.fixture(scope="module")
def real(train_python: str) -> dict[str, tuple[Tensors, list[int]]]:
    """Each case's tensors, shape and count by name, and trained parameters by set of targets."""
    found = run(train_python, COUNT, CASES)
    return msgspec.json.decode(found, type=dict[str, tuple[Tensors, list[int]]])


def test_there_are_forty_configurations_and_all_families() -> None:
    distinct = {json.dumps(case.config, sort_keys=True) for case in CASES.values()}
    assert len(distinct) >= 40
    with pytest.raises(BadInput) as unknown:
        from_config({"model_type": "none"})
    families = str(unknown.value).rsplit("known: ", 1)[1].split(", ")
    assert {case.config["model_type"] for case in CASES.values()} == set(families)


@pytest.mark.parametrize("name", CASES)
def test_tensors_and_adapters_equal_the_real_model_s(
    name: str, real: dict[str, tuple[Tensors, list[int]]]
) -> None:
    case, (tensors, trainable) = CASES[name], real[name]
    shape = case.shape()
    assert {t.name: (t.shape, t.count) for t in shape.tensors()} == tensors
    head = shape.head_parameters if case.outputs else 0  # trained whole, beside the adapters
    for targets, trained in zip(case.target_sets, trainable, strict=True):
        named = shape.target_names if isinstance(targets, str) else targets
        assert shape.lora_parameters(case.r, named) + head == trained, targets


def test_what_is_quantised_is_what_bitsandbytes_quantises(train_python: str) -> None:
    found = msgspec.json.decode(run(train_python, QUANTISED, FAMILIES), type=dict[str, list[str]])
    for name, quantised in found.items():
        shape = from_config(FAMILIES[name])
        assert sorted(t.name for t in shape.tensors() if t.four_bit) == quantised, name
