"""Pure: a job and an offer → the job made concrete for it, or why it cannot be.

A refusal is one line for people, with what the card has and what was asked.
"""

import msgspec

from jobs.spec import (
    Dtype,
    JobSpec,
    Optimizer,
    Quantization,
    ResolvedEvaluation,
    ResolvedSpec,
    ResolvedTrain,
    Strategy,
    Train,
)
from launcher.catalog.providers import LOCAL
from launcher.estimate.tensors import ModelShape
from launcher.types import Device, Offer

# The wheel torch 2.13.0 of images/requirements.lock asks for cuda-toolkit 13.0.3 (its metadata on
# PyPI, 2026-11-21), which has dropped Volta (NVIDIA CUDA 13.0 release notes, "Dropped
# Architectures").
CUDA = "13.0"
CUDA_CAPABILITY = (7, 5)
BF16_CAPABILITY = (8, 0)  # NVIDIA CUDA programming guide: bf16 tensor cores from Ampere on
TF32_CAPABILITY = (8, 0)  # the same: TF32 tensor cores from Ampere on
FOUR_BIT_CAPABILITY = (6, 0)  # bitsandbytes 0.50 installation guide: NF4 from Pascal on

# The order of `auto`, where two cost the same and take as long.
AUTO: tuple[Strategy, ...] = ("qlora", "lora")

_EIGHT_BIT_OPTIMIZERS: tuple[Optimizer, ...] = ("adamw_8bit", "paged_adamw_8bit")


def strategies(job: JobSpec) -> tuple[Strategy, ...]:
    """What may be planned: the one named, or what `auto` tries."""
    return AUTO if job.strategy == "auto" else (job.strategy,)


def resolve(
    job: JobSpec, strategy: Strategy, offer: Offer, run_id: str, own_python: bool = False
) -> ResolvedSpec | str:
    """The spec that would run on this offer, or the reason why none can.

    `own_python`: the user names the interpreter of a local job, which brings its own CUDA.
    """
    device = offer.device
    our_cuda = not (own_python and offer.provider == LOCAL)
    refusal = _device_refusal(strategy, device, our_cuda)
    if refusal is not None:
        return refusal
    dtype = dtype_on(job, device)
    if dtype not in ("bf16", "fp16", "fp32"):
        return dtype
    if job.train.tf32 and not _at_least(device, TF32_CAPABILITY):
        return f"{_needs('TF32', TF32_CAPABILITY, device)}; leave train.tf32 unset"
    shared = _sharing_refusal(job.train, offer.count)
    if shared is not None:
        return shared
    fields = msgspec.structs.asdict(job)
    fields.update(
        run_id=run_id,
        processes=offer.count,
        strategy=strategy,
        dtype=dtype,
        device=device.kind,
        quantization=Quantization() if strategy == "qlora" else None,
        train=_train(job, device, dtype),
        eval=_evaluation(job),
    )
    return ResolvedSpec(**fields)


def _train(job: JobSpec, device: Device, dtype: str) -> ResolvedTrain:
    """As the recipe says; what it leaves open to the plan at its smallest, see variants.py."""
    fields = msgspec.structs.asdict(job.train)
    fields.update(optimizer=_optimizer(job, device), tf32=_tf32(job, device, dtype))
    if job.train.micro_batch == "auto":
        fields["micro_batch"] = 1
    if job.train.activation_checkpointing == "auto":
        fields["activation_checkpointing"] = True
    return ResolvedTrain(**fields)


def _evaluation(job: JobSpec) -> ResolvedEvaluation:
    """As the recipe says; with the fewest answers at once where it says nothing."""
    fields = msgspec.structs.asdict(job.eval)
    if job.eval.batch == "auto":
        fields["batch"] = 1
    return ResolvedEvaluation(**fields)


def _sharing_refusal(train: Train, gpus: int) -> str | None:
    """Why a step's rows cannot be shared out evenly, as jobs/arguments.py must."""
    rows = train.effective_batch
    micro = 1 if train.micro_batch == "auto" else min(train.micro_batch, rows)
    if rows % (micro * gpus) == 0:
        return None
    each = f" by {micro} at a time" if micro > 1 else ""
    among = f" among {gpus} GPUs" if gpus > 1 else ""
    return f"train.effective_batch {rows} cannot be shared out evenly{among}{each}"


def model_refusal(strategy: Strategy, shape: ModelShape) -> str | None:
    """Why a model cannot be trained by a strategy on any device."""
    if strategy == "qlora" and not shape.four_bit_parameters:
        return f"transformers quantises no layer of {shape.architecture}; --strategy lora"
    return None


def dtype_on(job: JobSpec, device: Device) -> Dtype | str:
    """The precision of the computation on this device, or why the one asked for is not had.

    `auto` is bf16 where a card has it, else fp16 with loss scaling. A CPU gets fp32 for every
    strategy, NF4 weights included: one NF4 layer of 576 x 1536 took 30 ms of CPU for 512 tokens
    forward and backward in fp32 and 590 ms in bf16 (bitsandbytes 0.50.2, torch 2.13, AMD EPYC
    without AVX512-BF16, one thread, 2026-11-21), with the same error against fp32 weights (0.092).
    Metal gets fp32 too: 16-bit training there is unproved.
    """
    if device.kind == "cuda":
        return _cuda_dtype(job, device)
    if job.dtype == "fp16":
        return f"fp16 needs loss scaling, which {device.kind} does not have; dtype: auto"
    return "fp32" if job.dtype == "auto" else job.dtype


def _cuda_dtype(job: JobSpec, device: Device) -> Dtype | str:
    has_bf16 = _at_least(device, BF16_CAPABILITY)
    if job.dtype == "auto":
        return "bf16" if has_bf16 else "fp16"
    if job.dtype == "bf16" and not has_bf16:
        return _needs("bf16", BF16_CAPABILITY, device)
    return job.dtype


def _device_refusal(strategy: Strategy, device: Device, our_cuda: bool) -> str | None:
    if device.kind == "cuda":
        if device.compute_capability is None:
            return f"{device.name} is not a CUDA card; the training environment is built for CUDA"
        if device.dense_16bit_tflops <= 0:
            return f"speed of {device.name} unknown: not in the GPU table"
        if our_cuda and device.compute_capability < CUDA_CAPABILITY:
            return _needs(f"the training environment's CUDA {CUDA}", CUDA_CAPABILITY, device)
        if strategy == "qlora" and device.compute_capability < FOUR_BIT_CAPABILITY:
            return _needs("4-bit", FOUR_BIT_CAPABILITY, device)
    if device.kind == "mps" and strategy == "qlora":
        return "4-bit needs bitsandbytes, which has no kernels for Metal; --strategy lora"
    return None


def _needs(what: str, capability: tuple[int, int], device: Device) -> str:
    least, has = (
        ".".join(map(str, c or ("none",))) for c in (capability, device.compute_capability)
    )
    return f"{what} needs compute capability {least}, {device.name} has {has}"


def _optimizer(job: JobSpec, device: Device) -> Optimizer:
    """The recipe's, but AdamW of torch where bitsandbytes has no kernels, and fused on CUDA.

    The fused one computes the same and needs no scratch copy of the parameters.
    """
    if device.kind == "mps" and job.train.optimizer in _EIGHT_BIT_OPTIMIZERS:
        return "adamw_torch"
    if device.kind == "cuda" and job.train.optimizer == "adamw_torch":
        return "adamw_torch_fused"
    return job.train.optimizer


def _tf32(job: JobSpec, device: Device, dtype: str) -> bool:
    """As the recipe says; else for the fp32 rest of a 16-bit job, on cards that have it."""
    if job.train.tf32 is not None:
        return job.train.tf32
    return dtype != "fp32" and _at_least(device, TF32_CAPABILITY)


def _at_least(device: Device, capability: tuple[int, int]) -> bool:
    return device.compute_capability is not None and device.compute_capability >= capability
