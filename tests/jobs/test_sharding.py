"""FSDP's settings as the libraries' own classes take them. A GPU has not run them yet."""

import msgspec
import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from transformers import TrainingArguments

from jobs import sharding, strategies
from jobs.outcome import BadInput
from jobs.spec import Quantization, ResolvedEvaluation, ResolvedSpec, ResolvedTrain

replace = msgspec.structs.replace
JOB = ResolvedSpec(
    run_id="r", model={"id": "a/b-70b"}, data={"train": "x"}, strategy="qlora", dtype="bf16",
    device="cuda", quantization=Quantization(), processes=4, sharding="full",
    eval=ResolvedEvaluation(generate=False),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_transformers_and_accelerate_take_the_settings(tmp_path):
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, bf16=True, **sharding.fsdp_arguments(JOB)
    )
    settings = arguments.fsdp_plugin_args
    assert settings["sync_module_states"]
    assert settings["cpu_ram_efficient_loading"]
    # accelerate asks for a GPU at once where weights are to be sent to the other ranks
    here = settings | {"sync_module_states": False, "cpu_ram_efficient_loading": False}
    plugin = FullyShardedDataParallelPlugin(**here)
    assert plugin.fsdp_version == 1
    assert plugin.use_orig_params
    assert plugin.sharding_strategy.name == "FULL_SHARD"
    assert plugin.activation_checkpointing
    assert not arguments.activation_checkpointing


def test_four_bits_are_stored_in_the_type_of_the_computation():
    found = strategies.quantization(JOB)
    assert found.bnb_4bit_quant_storage == found.bnb_4bit_compute_dtype == torch.bfloat16
    whole = strategies.quantization(replace(JOB, sharding="none"))
    assert whole.bnb_4bit_quant_storage == torch.uint8  # bitsandbytes' own default


def test_a_job_that_is_not_sharded_is_told_nothing():
    assert sharding.fsdp_arguments(replace(JOB, sharding="none")) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cpu"},
        {"strategy": "full", "quantization": None},
        {"eval": ResolvedEvaluation()},
        {"train": ResolvedTrain(select_by="loss")},
    ],
)
def test_what_is_not_built_is_refused(changes):
    sharding.require_shardable(JOB)
    with pytest.raises(BadInput, match="sharding: full"):
        sharding.require_shardable(replace(JOB, **changes))
