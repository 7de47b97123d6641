"""Peak memory of one training job on one device, term by term. All figures are bytes.

The moments that can be the peak are the loss, one layer's backward pass, the optimizer's step and
the evaluation; each is a term, and those that are over before the peak count 0 and say so.
"""

from math import ceil
from typing import Literal

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.errors import BadInput
from launcher.estimate import activations
from launcher.estimate.activations import Widths
from launcher.estimate.tensors import ModelShape, Tensor
from launcher.types import GIB, MIB, Device, MemoryTerm

Loss = Literal["chunked", "plain"]

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}

NF4_BLOCK = 64  # bitsandbytes 0.50 functional.quantize_4bit: values per absmax
ABSMAX_BLOCK = 256  # the same: absmax values per second-level absmax
OPTIMIZER_BLOCK = 256  # bitsandbytes optim/optimizer.py init_state, Optimizer2State
OPTIMIZER_8BIT_FLOOR = 4096  # the same, min_8bit_size: smaller tensors keep fp32 state
# trl 1.16 trainer/utils.py _CHUNKED_LOGPROB_CHUNK_SIZE, kernels/chunked_logprob.py TOKEN_CHUNK_SIZE
LOSS_VOCABULARY_CHUNK, LOSS_TOKEN_CHUNK = 32_768, 4_096
# kernels/chunked_logprob.py _backward_tile, the path without Triton: y, z, log p, p, grad, target
# and one product, each fp32 and as large as the tile.
LOSS_TILE_COPIES = 7
# fp32 logits, log-softmax, gradient and the 16-bit gradient: 14 bytes reproduce the five peaks
# traced in fake-tensor mode (FACTS 9) within 1 %, see benchmarks/vram_residuals.py.
PLAIN_LOSS_BYTES = 14

CPU_SLACK = 0.15
# Share of what comes and goes that torch's caching allocator holds on top: the exact-length rows
# that state their counter (answerai, reserved per GPU) need 0.26 (LoRA) and 0.49 (NF4); the middle.
CUDA_SLACK = 0.37
# Above the expected peak, per strategy: the highest residual, measured / ours - 1, of the exact
# -length rows, as `python -m benchmarks.vram_residuals` prints them on 2026-11-21: LoRA qwen-readme
# +19 %, NF4 answerai +7 % (two rows alone, so LoRA's margin holds there too), rounded up. Not
# covered: ms-swift and unsloth rows (up to +128 %), whose reserved counters grow with varying
# lengths until the card is full, under older software; a need is not read from them. "full" has
# no row: the same figure, an assumption.
UPPER_MARGIN = 0.20

# Assumption, not measured here: driver and library context of one process on one card.
CUDA_CONTEXT_BYTES = 512 * MIB
# Assumption: a process that drives a card, with its CUDA libraries in RAM.
HOST_PROCESS_BYTES = 4 * GIB
# transformers' save_pretrained writes files of at most 50 GB since 5.0, 5 GB before; published
# models mostly keep 5 GB. Files are mapped, so this much is wanted, not strictly needed.
WEIGHT_FILE_BYTES = 5_000_000_000
# Python with torch, transformers, peft, trl and datasets imported: 499 MB resident, measured on a
# 2-core CPU machine in November 2026.
PROCESS_BYTES = 499_000_000


class Memory(Struct, frozen=True, kw_only=True):
    """Terms that add up to the expected peak, and a bound for it."""

    terms: tuple[MemoryTerm, ...]
    expected_bytes: int
    upper_bytes: int


class _Moment(Struct, frozen=True):
    name: str
    bytes: int
    why: str


def memory(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    *,
    prompt_tokens: int | None = None,
    loss: Loss = "chunked",
) -> Memory:
    """Peak memory of the job; `prompt_tokens` is the longest row's, for the evaluation.

    Rows count as full (`seq_len` tokens). `loss` is TRL's chunked path, or transformers' own for
    comparison with published runs. Raises `BadInput` when no LoRA target exists in the model.
    """
    if spec.strategy != "full" and not any(t.target for t in shape.tensors(spec.lora.targets)):
        raise BadInput(
            f"lora.targets: none of {', '.join(spec.lora.targets)} is a layer of this model\n"
            f"its linear layers: {', '.join(shape.linear_names())}"
        )
    widths = widths_of(spec, device)
    standing = [*_weights(shape, spec), *_trained(shape, spec, widths)]
    passing = [
        _saved(shape, spec, widths),
        *_moments(shape, spec, device, widths, loss, prompt_tokens),
    ]
    terms = [*standing, *passing]
    if device.kind == "cpu":
        terms.append(MemoryTerm(name="process", bytes=PROCESS_BYTES, why="Python, torch, trl"))
    elif device.kind == "cuda":
        terms.append(
            MemoryTerm(name="CUDA context", bytes=CUDA_CONTEXT_BYTES, why="assumption, per process")
        )
    terms.append(_slack(passing, device))
    expected = sum(t.bytes for t in terms)
    return Memory(
        terms=tuple(t for t in terms if t.bytes or t.why),
        expected_bytes=expected,
        upper_bytes=ceil(expected * (1 + UPPER_MARGIN)),
    )


def widths_of(spec: ResolvedSpec, device: Device) -> Widths:
    """Bytes per element of stream and adapters.

    Adapters are fp32 on an unquantised base (peft 0.21 tuners_utils.py cast_adapter_dtype, which
    trl 1.16 turns off for DeepSpeed ZeRO-3 alone) and bf16 on a quantised one (trl
    sft_trainer.py SFTTrainer.__init__, "When using QLoRA"); with fp16 we keep them in fp32, since
    loss scaling needs it.
    """
    compute = DTYPE_BYTES[spec.dtype]
    adapter = 2 if spec.quantization is not None and spec.dtype != "fp16" else 4
    return Widths(
        compute=compute,
        adapter=adapter,
        autocast=compute == 2,
        dropout=spec.lora.dropout > 0,
        full=spec.strategy == "full",
    )


def nf4_bytes(tensor: Tensor, double: bool) -> tuple[int, int]:
    """One tensor's packed nibbles and its quantisation state, bytes."""
    blocks = ceil(tensor.numel / NF4_BLOCK)
    code = 16 * 4
    if not double:
        return ceil(tensor.numel / 2), 4 * blocks + code
    return ceil(tensor.numel / 2), blocks + 4 * ceil(blocks / ABSMAX_BLOCK) + code + 4


def checkpoint_bytes(sizes: list[tuple[int, int]], spec: ResolvedSpec) -> int:
    """One checkpoint on disk: trained parameters and optimizer state, as fp32 at most."""
    state = sum(optimizer_bytes(n, spec.train.optimizer, 4) * times for n, times in sizes)
    return state + 4 * sum(n * times for n, times in sizes)


def host_bytes(shape: ModelShape, spec: ResolvedSpec, upper_bytes: int) -> int:
    """RAM of the machine: on a CPU all of it, beside a card the process and one weight file."""
    if spec.device == "cpu":
        return upper_bytes
    return HOST_PROCESS_BYTES + min(2 * shape.parameters, WEIGHT_FILE_BYTES)


def _weights(shape: ModelShape, spec: ResolvedSpec) -> list[MemoryTerm]:
    tensors = shape.tensors()
    # Full training keeps fp32 parameters and computes under autocast (trl loads fp32 by default).
    width = 4 if spec.strategy == "full" else DTYPE_BYTES[spec.dtype]
    name = "fp32" if width == 4 else spec.dtype
    if spec.quantization is None:
        return [_term("base weights", width * shape.parameters, f"{shape.parameters:,} × {name}")]
    linear = [t for t in tensors if t.kind == "linear"]
    packed = [nf4_bytes(t, spec.quantization.double) for t in linear]
    rest = sum(t.parameters for t in tensors if t.kind != "linear")
    return [
        _term(
            "base weights",
            sum(p[0] * t.count for p, t in zip(packed, linear, strict=True)),
            f"{sum(t.parameters for t in linear):,} in 4-bit NF4",
        ),
        _term(
            "quantisation state",
            sum(p[1] * t.count for p, t in zip(packed, linear, strict=True)),
            f"a scale per {NF4_BLOCK}"
            + (", itself in 8 bits" if spec.quantization.double else " in fp32"),
        ),
        _term("unquantised parts", width * rest, f"embedding, norms, head: {rest:,} × {name}"),
    ]


def _trained(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> list[MemoryTerm]:
    sizes = trained_sizes(shape, spec)
    count = sum(n * times for n, times in sizes)
    width = 4 if w.full else w.adapter
    state = sum(optimizer_bytes(n, spec.train.optimizer, width) * times for n, times in sizes)
    terms = [
        _term("gradients", width * count, f"{count:,} trained × {width} bytes"),
        _term("optimizer state", state, f"{spec.train.optimizer}; paged parts counted whole"),
    ]
    if not w.full:
        why = f"{count:,} × {'bf16' if width == 2 else 'fp32'}, r {spec.lora.r}"
        terms.insert(0, _term("adapters", width * count, why))
    if w.autocast and width == 4:
        terms.append(_term("autocast copies", 2 * count, "trained fp32 weights in 16 bits"))
    return terms


def trained_sizes(shape: ModelShape, spec: ResolvedSpec) -> list[tuple[int, int]]:
    """(elements, how many) of every trained tensor; a LoRA pair is A: r × in, B: out × r."""
    if spec.strategy == "full":
        return [(t.numel, t.count) for t in shape.tensors()]
    targets = [t for t in shape.tensors(spec.lora.targets) if t.target]
    return [(spec.lora.r * size, t.count) for t in targets for size in t.shape]


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


def _saved(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> MemoryTerm:
    tokens = spec.train.micro_batch * spec.train.seq_len
    if spec.train.activation_checkpointing:
        size = shape.layers * tokens * shape.hidden_size * w.compute
        return _term("saved activations", size, f"{shape.layers} layer inputs × {tokens} tokens")
    per_token = activations.saved_per_token(shape, w, spec.lora.targets)
    size = shape.layers * tokens * per_token
    return _term("saved activations", size, f"{shape.layers} whole layers × {tokens} tokens")


def _moments(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    w: Widths,
    loss: Loss,
    prompt_tokens: int | None,
) -> list[MemoryTerm]:
    """What stands on top of the saved activations; only the largest moment counts."""
    saved = _saved(shape, spec, w).bytes
    moments = [
        _Moment("one layer at work", *_layer(shape, spec, w)),
        _Moment("loss", *_loss(shape, spec, device, w, loss)),
    ]
    if w.full and spec.train.optimizer == "adamw_torch" and device.kind != "cpu":
        # torch optim/adamw.py _multi_tensor_adamw: one fp32 scratch copy of all parameters
        scratch = max(0, 4 * shape.parameters - saved)
        moments.append(_Moment("optimizer scratch", scratch, "foreach AdamW, beyond activations"))
    if prompt_tokens is not None and spec.eval.generate:
        answer = _evaluation(shape, spec, w, prompt_tokens)
        moments.append(_Moment("evaluation", max(0, answer[0] - saved), answer[1]))
    largest = max(moments, key=lambda m: m.bytes)
    return [
        _term(m.name, m.bytes, m.why)
        if m is largest
        else _term(m.name, 0, f"{m.bytes / GIB:.2f} GiB, but not at the peak ({largest.name})")
        for m in moments
    ]


def _layer(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> tuple[int, str]:
    targets = spec.lora.targets
    tokens = spec.train.micro_batch * spec.train.seq_len
    per_token = activations.backward_per_token(shape, w, targets)
    why = "gradient buffers of the widest layer"
    if spec.train.activation_checkpointing:
        per_token += activations.saved_per_token(shape, w, targets)
        why = "recomputed layer and its gradient buffers"
    size = tokens * per_token
    if spec.train.packing:
        size += tokens * tokens * (1 + w.compute)  # sdpa's block mask, as bool and as a bias
        why += ", packing mask"
    if spec.quantization is not None:
        linear = max(t.numel for t in shape.tensors() if t.kind == "linear")
        size += linear * w.compute + 4 * ceil(linear / NF4_BLOCK)
        why += f", one weight dequantised ({linear * w.compute / MIB:.0f} MiB)"
    return size, why


def _loss(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, loss: Loss
) -> tuple[int, str]:
    tokens = spec.train.micro_batch * spec.train.seq_len
    if loss == "plain":
        return PLAIN_LOSS_BYTES * tokens * shape.vocab_size, "whole logits"
    hidden = tokens * shape.hidden_size * (4 + 2 * w.compute)  # fp32 gradient, compacted input
    columns = min(LOSS_VOCABULARY_CHUNK, shape.vocab_size)
    tile = min(tokens, LOSS_TOKEN_CHUNK) * columns
    # The buffer is a whole chunk wide even where the vocabulary is smaller.
    size = min(tokens, LOSS_TOKEN_CHUNK) * LOSS_VOCABULARY_CHUNK * w.compute + hidden
    if device.kind != "cuda":
        size += LOSS_TILE_COPIES * 4 * tile
    if w.full:
        size += 4 * shape.vocab_size * shape.hidden_size  # the head's fp32 gradient
    return size, f"chunked: {min(tokens, LOSS_TOKEN_CHUNK)} tokens × {columns} logits at a time"


def _evaluation(
    shape: ModelShape, spec: ResolvedSpec, w: Widths, prompt_tokens: int
) -> tuple[int, str]:
    rows = spec.eval.batch
    prompt = rows * min(prompt_tokens, spec.train.seq_len)
    cache = (prompt + rows * spec.eval.max_new_tokens) * activations.kv_cache_per_token(
        shape, w.compute
    )
    forward = prompt * activations.forward_per_token(shape, w.compute)
    return cache + forward, f"{rows} answers at once: keys, values and the prompts' forward pass"


def _slack(passing: list[MemoryTerm], device: Device) -> MemoryTerm:
    share = CPU_SLACK if device.kind == "cpu" else CUDA_SLACK
    size = int(share * sum(t.bytes for t in passing))
    return _term("allocator slack", size, f"{share:.0%} of what comes and goes")


def _term(name: str, size: int, why: str) -> MemoryTerm:
    return MemoryTerm(name=name, bytes=size, why=why)
