"""Families that are not trained like Llama: each a whole job on a model of two layers."""

import json
import shutil

import pytest

from jobs import layout
from jobs.adapters import open_adapter
from tests.jobs.short_job import SAMPLE, curve, finish, write_job

pytestmark = pytest.mark.filterwarnings("default")

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16}  # fmt: skip
SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48,
          "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
          "vision_use_head": False}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}


def model(folder, config):
    """The sample's tokenizer, and a config for its vocabulary."""
    shutil.copytree(SAMPLE / "model", folder)
    sample = json.loads((folder / "config.json").read_text())
    kept = {name: sample[name] for name in ("vocab_size", "eos_token_id", "pad_token_id", "dtype")}
    text = SIZES | {"vocab_size": kept["vocab_size"]}
    config = kept | (SIZES if "text_config" not in config else {}) | config
    if "text_config" in config:
        config["text_config"] = text | config["text_config"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def job(folder, base, **changes):
    return write_job(
        folder,
        train_rows=8,
        model={"id": str(base), "init": "random"},
        lora={"r": 4, "alpha": 8, "dropout": 0.0},
        train={"epochs": 3, "learning_rate": 4e-3, "seq_len": 128, "effective_batch": 4,
               "packing": False},
        eval={"max_new_tokens": 4, "batch": 4, "compare_base": False},
        gates=[],
        **changes,
    )  # fmt: skip


def trains(folder):
    code, result = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    losses = [row[1] for row in curve(folder)]
    assert losses[-1] < losses[0]
    return result, open_adapter(folder / layout.ADAPTER)


def test_a_mixture_of_experts_trains_its_experts_and_goes_on(tmp_path):
    base = model(tmp_path / "base", {"model_type": "qwen3_moe", **EXPERTS})
    result, adapter = trains(job(tmp_path / "first", base))
    stacked = [key for key in adapter.tensors if ".experts." in key]
    assert len(stacked) == 2 * 2 * 2  # layers, tensors, A and B
    assert result.parameters_trainable == sum(t.numel() for t in adapter.tensors.values())
    trains(job(tmp_path / "second", base, resume_from=str(tmp_path / "first")))


def test_gemma_2_trains_without_sdpa(tmp_path):
    trains(job(tmp_path / "run", model(tmp_path / "base", {"model_type": "gemma2"})))


def test_what_encodes_images_gets_no_adapter(tmp_path):
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"},
              "vision_config": SIGLIP, "mm_tokens_per_image": 4, "image_token_index": 5,
              "boi_token_index": 6, "eoi_token_index": 7}  # fmt: skip
    result, adapter = trains(job(tmp_path / "run", model(tmp_path / "base", config)))
    assert not any("vision" in key for key in adapter.tensors)
    assert result.warnings == ()
