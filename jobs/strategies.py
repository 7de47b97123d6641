"""qlora, lora, full: what is loaded, in which type, and what is trained."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    set_seed,
)

from jobs import layout
from jobs.outcome import BadInput
from jobs.sharding import sharded
from jobs.spec import ResolvedSpec, name_disagrees, named_parameters

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# Found by trying, on the sample task: with 1 the adapter learnt the form of the answers and not the
# answers, with 4 it learnt both (2026-11-21; the runs differed in more than this).
WIDER_EMBEDDINGS = 4.0

# Found by trying, on two shared cores: two threads were slower than one on a model of 2.2 M
# parameters, and with a busy neighbour far slower (2026-11-21). Where it turns is an assumption.
ONE_THREAD_BELOW_PARAMETERS = 20_000_000


def build_base(config_folder: Path, target: Path, seed: int) -> Path:
    """Random weights for a folder's architecture, saved so that the adapter loads; made once.

    Embeddings and head are drawn `WIDER_EMBEDDINGS` times wider than the config says: a frozen
    base with every weight alike lets no token through its residual stream.
    """
    if target.is_dir():
        return target
    aside = target.with_name(target.name + layout.TEMPORARY_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    set_seed(seed)
    config = AutoConfig.from_pretrained(config_folder)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    ends = {id(m.weight): m.weight for m in _ends(model)}
    for weight in ends.values():  # one where they are tied
        weight.data.mul_(WIDER_EMBEDDINGS)
    model.save_pretrained(aside)
    AutoTokenizer.from_pretrained(config_folder).save_pretrained(aside)
    return aside.replace(target)


def _ends(model: Any) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


# What encodes images, in transformers' models that also take them (Gemma 3 from 4 B on). Its layers
# have the same names as the language model's; an adapter there would never see a gradient.
VISION_TOWER = "vision_tower"

# The module that scores, in transformers' sequence classifiers: trained whole, never in 4 bits.
HEAD = "score"


def load_model(
    job: ResolvedSpec, source: str, revision: str | None, tokenizer: Any, local_rank: int = 0
) -> Any:
    """The base model on the job's device: 4-bit where the spec says so, else in its dtype.

    For `full` the weights are fp32 and only the arithmetic is 16-bit: an update of 1e-5 vanishes
    in bf16's 8 significant bits. A regression student gets a fresh head of one output a dimension,
    drawn from the seed. Attention is transformers' own choice: sdpa, eager for Gemma 2, whose soft
    cap sdpa does not have.
    """
    options: dict[str, Any] = {
        "revision": revision,
        "dtype": torch.float32 if job.strategy == "full" else DTYPES[job.dtype],
        "quantization_config": quantization(job),
        "device_map": None if sharded(job) else {"": device(job, local_rank)},
    }
    kind, more = model_class(job, tokenizer)
    set_seed(job.seed)
    model = kind.from_pretrained(source, **options, **more)
    keep_gradients(model)
    if job.regression is None:
        return model
    if not isinstance(getattr(model, HEAD, None), torch.nn.Linear):
        raise BadInput(
            f"model.id: {type(model).__name__} has no linear layer `{HEAD}` to score with; "
            "use a decoder model such as Qwen2.5, Llama, Mistral or SmolLM2"
        )
    return model


def keep_gradients(model: Any) -> None:
    """Keeps 4-bit layers from the packed form that bitsandbytes 0.50 has for CPUs with AVX512-BF16.

    It packs at the first evaluation and stays packed, and that kernel has no gradient: training
    goes on without what should pass through the base's weights, or breaks off where a layer has a
    bias. It also computes in bf16 whatever the job's dtype.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def model_class(job: ResolvedSpec, tokenizer: Any) -> tuple[Any, dict[str, Any]]:
    """Transformers' class for the task, and what a regression student's is told beside."""
    if job.regression is None:
        return AutoModelForCausalLM, {}
    names = dict(enumerate(job.regression.dimensions))
    return AutoModelForSequenceClassification, {
        "problem_type": "regression",
        "id2label": names,
        "label2id": {name: i for i, name in names.items()},
        "pad_token_id": tokenizer.pad_token_id,  # the score is read at the last token before it
    }


def limit_threads(job: ResolvedSpec, parameters: int) -> None:
    """One thread for a model too small to share out, unless OMP_NUM_THREADS says otherwise."""
    small = job.device == "cpu" and parameters < ONE_THREAD_BELOW_PARAMETERS
    if small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def quantization(job: ResolvedSpec) -> BitsAndBytesConfig | None:
    if job.quantization is None:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=None if job.regression is None else [HEAD],
        bnb_4bit_quant_type=job.quantization.kind,
        bnb_4bit_use_double_quant=job.quantization.double,
        bnb_4bit_compute_dtype=DTYPES[job.dtype],
        bnb_4bit_quant_storage=DTYPES[job.dtype] if sharded(job) else None,
    )


def device(job: ResolvedSpec, local_rank: int = 0) -> str:
    there = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if not there[job.device]():
        raise BadInput(f"device: torch {torch.__version__} finds no {job.device} here")
    return f"cuda:{local_rank}" if job.device == "cuda" else job.device


def adapter(job: ResolvedSpec, model: Any) -> LoraConfig | None:
    if job.strategy == "full":
        return None
    sees = any(VISION_TOWER in name.split(".") for name, _ in model.named_modules())
    return LoraConfig(
        task_type="CAUSAL_LM" if job.regression is None else "SEQ_CLS",
        r=job.lora.r,
        lora_alpha=job.lora.alpha,
        lora_dropout=job.lora.dropout,
        target_modules=list(job.lora.targets),
        exclude_modules=rf"(.*\.)?{VISION_TOWER}\..*" if sees else None,
        bias="none",
    )


def with_adapter(job: ResolvedSpec, model: Any) -> Any:
    """The model with its adapter; as it is for `full`. TRL does this itself for its own trainer.

    peft keeps adapters in fp32 (autocast_adapter_dtype) and trains the head beside them.
    """
    config = adapter(job, model)
    return model if config is None else get_peft_model(model, config)


def cast_adapter(job: ResolvedSpec, model: Any) -> None:
    """A loaded adapter in the types that it was trained in: those of TRL, and `widen_adapter`'s.

    TRL trains the adapter of a quantised model in bf16; a regression student never meets TRL.
    """
    narrow = job.quantization is not None and job.dtype == "bf16" and job.regression is None
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16 if narrow else torch.float32)
    if job.regression is not None:
        widen_head(model)


def widen_head(model: Any) -> None:
    """A regression head is fp32 always: bf16 would lose the small updates it is trained with."""
    for name, parameter in model.named_parameters():
        if f"{HEAD}." in name:
            parameter.data = parameter.data.to(torch.float32)


def widen_adapter(job: ResolvedSpec, model: Any) -> None:
    """fp32 adapters, unless the job computes in bf16.

    TRL casts the adapter of a quantised model to bf16. With fp16 the loss scaler needs fp32
    gradients, and with fp32 the cast would only cost precision.
    """
    if job.regression is not None:
        widen_head(model)
    if job.dtype != "bf16":
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.float32)


def count_parameters(model: Any) -> int:
    """All parameters, 4-bit ones at the size they stand for rather than their packed bytes."""
    return sum(_full_size(p) for p in model.parameters())


def _full_size(parameter: Any) -> int:
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else int(parameter.numel())


def name_warning(model_id: str, parameters: int) -> str | None:
    """A warning when the id names another size than the model has."""
    named = named_parameters(model_id)
    if named is None or not name_disagrees(named, parameters):
        return None
    return (
        f"{model_id} names {named / 1e9:g} B parameters, but the model holds "
        f"{parameters / 1e9:.3g} B"
    )
