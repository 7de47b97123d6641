"""Peak memory of one training job on one device, term by term. All figures are bytes.

The moments that can be the peak are the loss, one layer's backward pass, the optimizer's step and
the evaluation; each is a term, and those that are over before the peak count 0 and say so.
"""

from math import ceil
from typing import Literal

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate import activations, unlike_llama
from launcher.estimate.activations import Widths
from launcher.estimate.adapters import require_adapters
from launcher.estimate.tensors import ModelShape
from launcher.estimate.weights import NF4_BLOCK, mapped, trained, weights, widths_of
from launcher.types import GIB, MIB, Device, MemoryTerm

Loss = Literal["chunked", "plain"]

# trl 1.16 trainer/utils.py _CHUNKED_LOGPROB_CHUNK_SIZE, kernels/chunked_logprob.py TOKEN_CHUNK_SIZE
LOSS_VOCABULARY_CHUNK, LOSS_TOKEN_CHUNK = 32_768, 4_096
# kernels/chunked_logprob.py _backward_tile, the path without Triton: y, z, log p, p, gradient,
# target, difference and product in fp32 and a bool, beside the tile itself: 9.25 tiles of fp32,
# measured 9.29 (benchmarks/cpu_heap.py loss, 4 x 512, 2026-11-21).
LOSS_TILE_BYTES = 8 * 4 + 1
# fp32 logits, log-softmax, gradient and the 16-bit gradient: 14 bytes reproduce the five peaks
# traced in fake-tensor mode within 1 %, see benchmarks/vram_residuals.py.
PLAIN_LOSS_BYTES = 14

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
# Published models mostly keep files of 5 GB. Files are mapped, so this much is wanted beside the
# process, not strictly needed. Assumption.
WEIGHT_FILE_BYTES = 5_000_000_000
# Python with torch, transformers, peft, trl and datasets imported: 499 MB resident (November 2026);
# the first step adds 0.2 GiB of libraries and workspaces (benchmarks/cpu_heap.py loss at 256
# tokens: 0.51 GiB, of which 0.29 are tiles; 2026-11-21).
PROCESS_BYTES = 499_000_000 + 200 * MIB
# glibc keeps freed blocks below 32 MB, so that even checkpointed layers leave their activations on
# the heap. benchmarks/cpu_heap.py on SmolLM2-135M, 4 x 512, 2026-11-21: 2.45-3.22 GiB after the
# forward pass, and 0.33 with MALLOC_MMAP_THRESHOLD_=1000000, where this model says 0.33; without
# checkpointing 6.25 against 4.19. A share of all layers' activations: 0.5-0.7.
CPU_HEAP_SHARE = 0.55
# Residuals, measured / ours - 1, of `python -m benchmarks.cpu_memory` on 2026-11-21: five cases,
# seven runs, LoRA -6 to +5 %, NF4 -16 to +24 %; the highest, rounded up, since the same case
# moved by 10 % between runs. The heap's share was chosen within its range with these in sight.
CPU_UPPER_MARGIN = 0.30


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
    comparison with published runs. Raises `BadInput` where PEFT cannot put LoRA's adapters.
    """
    if spec.strategy != "full":
        require_adapters(shape, spec.lora)
    widths = widths_of(spec)
    standing = [*weights(shape, spec), *trained(shape, spec, widths)]
    passing = [
        _saved(shape, spec, widths),
        *_moments(shape, spec, device, widths, loss, prompt_tokens),
    ]
    if device.kind == "cpu":
        why = "Python, torch, transformers, peft, trl at work"
        standing += [*mapped(shape, spec), _heap(shape, spec, widths)]
        standing.append(_term("process", PROCESS_BYTES, why))
    else:
        standing.append(_slack(passing, CUDA_SLACK))
        if device.kind == "cuda":
            standing.append(_term("CUDA context", CUDA_CONTEXT_BYTES, "assumption, per process"))
    terms = (*standing, *passing)
    expected = sum(t.bytes for t in terms)
    margin = CPU_UPPER_MARGIN if device.kind == "cpu" else UPPER_MARGIN
    return Memory(terms=terms, expected_bytes=expected, upper_bytes=ceil(expected * (1 + margin)))


def host_bytes(shape: ModelShape, spec: ResolvedSpec, upper_bytes: int) -> int:
    """RAM of the machine: on a CPU all of it, beside a card the process and one weight file."""
    if spec.device == "cpu":
        return upper_bytes
    return HOST_PROCESS_BYTES + min(2 * shape.parameters, WEIGHT_FILE_BYTES)


def _saved(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> MemoryTerm:
    tokens, targets = activations.micro_tokens(spec), spec.lora.targets
    if spec.train.activation_checkpointing:
        size = shape.layers * tokens * shape.hidden_size * w.compute
        return _term("saved activations", size, f"{shape.layers} layer inputs × {tokens} tokens")
    size = tokens * activations.saved_per_token(shape, w, targets)
    size += _pair_count(spec) * _pairs(shape, spec, w).kept
    size += unlike_llama.merged(shape, targets, 0 if w.full else w.compute).kept
    why = f"{shape.layers} whole layers × {tokens} tokens"
    return _term("saved activations", shape.layers * size, why)


def _pairs(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> unlike_llama.Pairs:
    return unlike_llama.pairs(shape, w.compute, masked=spec.train.packing)


def _pair_count(spec: ResolvedSpec) -> int:
    """Pairs of tokens that attention looks at; packed rows lie in one."""
    tokens = activations.micro_tokens(spec)
    return tokens * (tokens if spec.train.packing else spec.train.seq_len)


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
    if prompt_tokens is not None and spec.eval.generate and not shape.outputs:
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
    tokens, pairs = activations.micro_tokens(spec), _pairs(shape, spec, w)
    merged = unlike_llama.merged(shape, targets, 0 if w.full else w.compute)
    at_mlp = tokens * activations.backward_per_token(shape, w, targets) + merged.gradient
    at_attention = _pair_count(spec) * (pairs.backward - pairs.kept)
    size = max(at_mlp, at_attention) + _pair_count(spec) * pairs.shared
    why = "gradient buffers of the widest layer"
    if spec.train.activation_checkpointing:
        size += tokens * activations.saved_per_token(shape, w, targets)
        size += _pair_count(spec) * pairs.kept + merged.kept
        why = "recomputed layer and its gradient buffers"
    if pairs.shared:
        why += ", packing mask" if shape.attention == "fused" else ", attention over all pairs"
    if merged.kept:
        why += f", {shape.experts} experts with their adapters ({merged.kept / MIB:.0f} MiB)"
    linear = max((t.numel for t in shape.tensors() if t.four_bit), default=0)
    if spec.quantization is not None and linear:
        size += linear * w.compute + 4 * ceil(linear / NF4_BLOCK)
        why += f", one weight dequantised ({linear * w.compute / MIB:.0f} MiB)"
    return size, why


def _loss(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, loss: Loss
) -> tuple[int, str]:
    tokens = activations.micro_tokens(spec)
    if shape.outputs:
        # transformers modeling_layers.py GenericForSequenceClassification: scores at every token
        return 2 * 4 * tokens * shape.outputs, f"{shape.outputs} scores a token"
    if loss == "plain":
        return PLAIN_LOSS_BYTES * tokens * shape.vocab_size, "whole logits"
    hidden = tokens * shape.hidden_size * (4 + 2 * w.compute)  # fp32 gradient, compacted input
    columns = min(LOSS_VOCABULARY_CHUNK, shape.vocab_size)
    tile = min(tokens, LOSS_TOKEN_CHUNK) * columns
    # The buffer is a whole chunk wide even where the vocabulary is smaller.
    size = min(tokens, LOSS_TOKEN_CHUNK) * LOSS_VOCABULARY_CHUNK * w.compute + hidden
    if device.kind != "cuda":
        size += LOSS_TILE_BYTES * tile
    if w.full:
        size += 4 * shape.vocab_size * shape.hidden_size  # the head's fp32 gradient
    return size, f"chunked: {min(tokens, LOSS_TOKEN_CHUNK)} tokens × {columns} logits at a time"


def _evaluation(
    shape: ModelShape, spec: ResolvedSpec, w: Widths, prompt_tokens: int
) -> tuple[int, str]:
    rows, length = spec.eval.batch, min(prompt_tokens, spec.train.seq_len)
    prompt = rows * length
    cache = (prompt + rows * spec.eval.max_new_tokens) * activations.kv_cache_per_token(
        shape, w.compute
    )
    forward = prompt * activations.forward_per_token(shape, w.compute)
    pairs = unlike_llama.pairs(shape, w.compute, masked=False)
    forward += prompt * length * (pairs.shared + pairs.forward)
    forward += unlike_llama.merged(shape, spec.lora.targets, 0 if w.full else w.compute).kept
    return cache + forward, f"{rows} answers at once: keys, values and the prompts' forward pass"


def _slack(terms: list[MemoryTerm], share: float) -> MemoryTerm:
    size = int(share * sum(t.bytes for t in terms))
    return _term(
        "allocator slack", size, f"{share:.0%} of {', '.join(t.name for t in terms if t.bytes)}"
    )


def _heap(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> MemoryTerm:
    if spec.train.lean_heap:
        return _term("allocator slack", 0, "lean_heap: freed blocks go back to the system")
    per_token = activations.saved_per_token(shape, w, spec.lora.targets)
    whole = shape.layers * activations.micro_tokens(spec) * per_token
    why = f"freed blocks the heap keeps: {CPU_HEAP_SHARE:.0%} of all layers' activations"
    return _term("allocator slack", int(CPU_HEAP_SHARE * whole), why)


def _term(name: str, size: int, why: str) -> MemoryTerm:
    return MemoryTerm(name=name, bytes=size, why=why)
