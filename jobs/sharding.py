"""One model over several GPUs: FSDP, for what no single card holds (70B in 4 bits, say).

Unproved until a GPU has run it: what is here is what transformers, accelerate and PEFT document
for QLoRA under FSDP, and a test holds it against their own classes. Sources: PEFT's guide on FSDP
(https://huggingface.co/docs/peft/accelerate/fsdp) and bitsandbytes' on FSDP and QLoRA
(https://huggingface.co/docs/bitsandbytes/fsdp_qlora): 4-bit weights are stored in the type of the
computation, since FSDP flattens parameters of one type together.

FSDP 1 with original parameters, as PEFT's wrapping policy expects: trained and frozen parameters
stand in units of their own. transformers 5.23 calls it deprecated in favour of FSDP 2.
"""

from typing import Any

from jobs.outcome import BadInput
from jobs.spec import ResolvedSpec


def sharded(job: ResolvedSpec) -> bool:
    return job.sharding == "full"


def require_shardable(job: ResolvedSpec) -> None:
    """Raises `BadInput` for what is not built for a model that no rank holds whole."""
    if not sharded(job):
        return
    if job.device != "cuda":
        raise BadInput("sharding: full needs GPUs; a CPU job shares out rows alone")
    if job.strategy == "full":
        raise BadInput("sharding: full is made for adapters; strategy: full is not built on it")
    if job.eval.generate:
        raise BadInput("sharding: full: rank 0 alone cannot generate; set eval.generate: false")
    if job.train.select_by is not None:
        raise BadInput("sharding: full keeps the last epoch; leave train.select_by out")


def fsdp_arguments(job: ResolvedSpec) -> dict[str, Any]:
    """For TrainingArguments; nothing where every rank holds the model."""
    if not sharded(job):
        return {}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 1,
            "reshard_after_forward": "full_shard",
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "use_orig_params": True,
            "cpu_ram_efficient_loading": True,
            "sync_module_states": True,
            "backward_prefetch": "backward_pre",
            "state_dict_type": "FULL_STATE_DICT",
            "activation_checkpointing": job.train.activation_checkpointing,
        },
        "activation_checkpointing": False,  # FSDP's own takes its place
    }


def wrap_adapter(job: ResolvedSpec, tuner: Any) -> None:
    """Trained and frozen parameters into units of their own (PEFT's policy)."""
    if sharded(job):
        from peft.utils.other import fsdp_auto_wrap_policy

        plugin = tuner.accelerator.state.fsdp_plugin
        plugin.auto_wrap_policy = fsdp_auto_wrap_policy(tuner.model)


def adapter_weights(job: ResolvedSpec, tuner: Any) -> dict[str, Any] | None:
    """The whole state, gathered from all ranks onto rank 0; None where the model holds it.

    All ranks together.
    """
    if not sharded(job):
        return None
    gathered: dict[str, Any] = tuner.accelerator.get_state_dict(tuner.model_wrapped)
    return gathered
