"""What stands in memory throughout: weights, adapters, gradients, optimizer state. Bytes."""

from functools import cache, lru_cache
from math import ceil

from jobs.spec import ResolvedSpec
from launcher.estimate.batch import NF4_BLOCK, Widths
from launcher.estimate.tensors import ModelShape, Tensor
from launcher.types import MemoryTerm, Seen

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}

ABSMAX_BLOCK = 256  # the same: absmax values per second-level absmax
OPTIMIZER_BLOCK = 256  # bitsandbytes optim/optimizer.py init_state, Optimizer2State
OPTIMIZER_8BIT_FLOOR = 4096  # the same, min_8bit_size: smaller tensors keep fp32 state


def widths_of(spec: ResolvedSpec) -> Widths:
    """Bytes per element of stream, matmuls and adapters.

    Full training keeps fp32 weights, and with them the residual stream; autocast narrows what goes
    into a product.

    Adapters are fp32 on an unquantised base (peft 0.21 tuners_utils.py cast_adapter_dtype, which
    trl 1.16 turns off for DeepSpeed ZeRO-3 alone). On a quantised one trl makes them bf16
    (sft_trainer.py SFTTrainer.__init__, "When using QLoRA"), and jobs/strategies.py widen_adapter
    makes them fp32 again unless the job computes in bf16. A regression student does not go through
    trl: its adapters stay fp32. What FSDP trains is made fp32 by accelerate 1.15 (accelerator.py
    prepare_model, "upcasting").
    """
    compute = DTYPE_BYTES[spec.dtype]
    narrow = spec.quantization is not None and spec.dtype == "bf16" and spec.regression is None
    narrow = narrow and spec.sharding == "none"
    adapter = 2 if narrow else 4
    full = spec.strategy == "full"
    return Widths(
        compute=compute,
        stream=4 if full else compute,
        adapter=adapter,
        rank=spec.lora.r,
        autocast=compute == 2,
        dropout=spec.lora.dropout > 0,
        full=full,
        nf4=spec.quantization is not None,
    )


def weights(shape: ModelShape, spec: ResolvedSpec) -> list[MemoryTerm]:
    """The base model's terms; with NF4 only what bitsandbytes takes is quantised.

    Stacked experts are parameters, not layers, and stay as loaded (transformers 5.23
    integrations/bitsandbytes.py replace_with_bnb_linear).
    """
    tensors = shape.tensors()
    width = base_width(spec)
    name = "fp32" if width == 4 else spec.dtype
    if spec.quantization is None:
        return [term("base weights", width * shape.parameters, f"{shape.parameters:,} × {name}")]
    linear = [t for t in tensors if t.four_bit]
    packed = [nf4_bytes(t, spec.quantization.double) for t in linear]
    rest = sum(t.parameters for t in tensors if not t.four_bit)
    parts = "experts, " if shape.experts else "all layers, " if not linear else ""
    return [
        term(
            "base weights",
            sum(p[0] * t.count for p, t in zip(packed, linear, strict=True)),
            f"{sum(t.parameters for t in linear):,} in 4-bit NF4",
        ),
        term(
            "quantisation state",
            sum(p[1] * t.count for p, t in zip(packed, linear, strict=True)),
            f"a scale per {NF4_BLOCK}"
            + (", itself in 8 bits" if spec.quantization.double else " in fp32"),
        ),
        term(
            "unquantised parts", width * rest, f"{parts}embedding, norms, head: {rest:,} × {name}"
        ),
    ]


def base_width(spec: ResolvedSpec) -> int:
    """Bytes of an unquantised parameter of the base.

    Full training keeps fp32 parameters and computes under autocast (trl loads fp32 by default).
    """
    return 4 if spec.strategy == "full" else DTYPE_BYTES[spec.dtype]


def mapped(shape: ModelShape, spec: ResolvedSpec) -> list[MemoryTerm]:
    """The weight file behind a quantised model, resident while one tensor still points into it."""
    width = file_width(shape, spec)
    if spec.quantization is None or DTYPE_BYTES[spec.dtype] != width:
        return []
    linear = sum(t.parameters for t in shape.tensors() if t.four_bit)
    why = "read to quantise; given back when memory is short"
    return [term("mapped weight file", width * linear, why, "process")]


def file_width(shape: ModelShape, spec: ResolvedSpec) -> int:
    """Bytes of a parameter in the base's files.

    As config.json says, fp32 where the job draws them itself. Assumption: 16 bits where nothing
    says, as most models are published.
    """
    return 4 if spec.model.init == "random" else shape.file_width or 2


def trained(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> list[MemoryTerm]:
    """Adapters and optimizer state, by the widths of `widths_of`."""
    sizes = trained_sizes(shape, spec)
    count = sum(n * times for n, times in sizes)
    width = 4 if w.full else w.adapter
    optimizer = spec.train.optimizer
    state = state_bytes(sizes, optimizer, width)
    paged = "; paged parts counted whole" if optimizer.startswith("paged") else ""
    terms = [term("optimizer state", state, optimizer + paged)]
    if not w.full:
        why = f"{count:,} × {'bf16' if width == 2 else 'fp32'}, r {spec.lora.r}"
        terms.insert(0, term("adapters", width * count, why))
    return terms


def gradient_bytes(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> int:
    """Of all that is trained, in its own dtype."""
    count = sum(n * times for n, times in trained_sizes(shape, spec))
    return (4 if w.full else w.adapter) * count


def autocast_copies(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> int:
    """16-bit copies of all trained fp32 matrices, which autocast keeps until the forward pass ends.

    torch autocast_mode.cpp cached_cast. Embedding and norms are no operands of a product.
    """
    if not w.autocast or not (w.full or w.adapter == 4):
        return 0
    if w.full:
        return w.compute * sum(t.parameters for t in shape.tensors() if t.kind == "linear")
    return w.compute * sum(n * times for n, times in trained_sizes(shape, spec))


# (elements, how many) of every trained tensor
Sizes = tuple[tuple[int, int], ...]


def trained_sizes(shape: ModelShape, spec: ResolvedSpec) -> Sizes:
    """A LoRA pair is A: r × in, B: out × r."""
    if spec.strategy == "full":
        return tuple((t.numel, t.count) for t in shape.tensors())
    pairs = _pairs(shape, spec.lora.targets, spec.lora.r)
    return (*pairs, (shape.head_parameters, 1)) if shape.outputs else pairs


@cache  # a plan asks for it hundreds of times
def _pairs(shape: ModelShape, targets: tuple[str, ...], r: int) -> Sizes:
    placed = [t for t in shape.tensors(targets) if t.target]
    return tuple((size, t.count) for t in placed for size in t.adapter(r))


@lru_cache(maxsize=256)  # a plan asks the same of every offer
def state_bytes(sizes: Sizes, optimizer: str, parameter_width: int) -> int:
    """Both moments of all that is trained."""
    return sum(optimizer_bytes(n, optimizer, parameter_width) * times for n, times in sizes)


def optimizer_bytes(numel: int, optimizer: str, parameter_width: int) -> int:
    """Both AdamW moments of one tensor.

    torch keeps them in the parameter's dtype (optim/adamw.py zeros_like); bitsandbytes in 8 bits
    with an fp32 scale per block, small tensors in fp32.
    """
    if "8bit" not in optimizer:
        return 2 * parameter_width * numel
    if numel < OPTIMIZER_8BIT_FLOOR:
        return 8 * numel
    return 2 * numel + 2 * 4 * ceil(numel / OPTIMIZER_BLOCK)


def nf4_bytes(tensor: Tensor, double: bool) -> tuple[int, int]:
    """One tensor's packed nibbles and its quantisation state, bytes."""
    blocks = ceil(tensor.numel / NF4_BLOCK)
    code = 16 * 4
    if not double:
        return ceil(tensor.numel / 2), 4 * blocks + code
    return ceil(tensor.numel / 2), blocks + 4 * ceil(blocks / ABSMAX_BLOCK) + code + 4


def checkpoint_bytes(sizes: Sizes, spec: ResolvedSpec) -> int:
    """One checkpoint on disk: trained parameters and optimizer state, as fp32 at most."""
    return state_bytes(sizes, spec.train.optimizer, 4) + 4 * sum(n * times for n, times in sizes)


def term(name: str, size: int, why: str, seen: Seen = "allocated") -> MemoryTerm:
    return MemoryTerm(name=name, bytes=size, why=why, seen=seen)
