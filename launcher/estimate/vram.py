"""Peak memory of one training job on one device, term by term. All figures are bytes.

The moments that can be the peak are the loss, one layer's backward pass, the optimizer's step and
the evaluation; each is a term, and those that are over before the peak count 0 and say so.
"""

from math import ceil
from typing import Literal

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate import activations, unlike_llama
from launcher.estimate.activations import layer_at_work
from launcher.estimate.adapters import require_adapters
from launcher.estimate.batch import Batch, Layer, Widths, batch_of, micro_tokens
from launcher.estimate.tensors import ModelShape
from launcher.estimate.weights import (
    autocast_copies,
    gradient_bytes,
    mapped,
    term,
    trained,
    weights,
    widths_of,
)
from launcher.types import GIB, MIB, Device, MemoryTerm

Loss = Literal["chunked", "plain"]

# trl 1.16 trainer/utils.py _CHUNKED_LOGPROB_CHUNK_SIZE, kernels/chunked_logprob.py TOKEN_CHUNK_SIZE
LOSS_VOCABULARY_CHUNK, LOSS_TOKEN_CHUNK = 32_768, 4_096
# kernels/chunked_logprob.py _backward_tile, the path without Triton: y, z, log p, p, gradient,
# target, difference and product in fp32 and a bool, beside the tile itself: 9.25 tiles of fp32,
# measured 9.29 (benchmarks/cpu_heap.py loss, 4 x 512, 2026-11-21).
LOSS_TILE_BYTES = 8 * 4 + 1
# transformers loss_utils.py ForCausalLMLoss: in the backward pass the log-softmax that it kept, its
# gradient and the logits' gradient, all fp32; the 16-bit logits are gone with the model's output.
PLAIN_LOSS_BYTES = 12

# Share of what comes and goes that torch's caching allocator holds on top: the exact-length rows
# that state their counter (answerai, reserved per GPU) need 0.40 (LoRA) and 0.59 (NF4), as `python
# -m benchmarks.vram_residuals` prints them on 2026-11-21; the middle.
CUDA_SLACK = 0.50
# Above the expected peak, per strategy: the highest residual, measured / ours - 1, of the exact
# -length rows, as `python -m benchmarks.vram_residuals` prints them on 2026-11-21: LoRA qwen-readme
# +22 %, NF4 answerai +5 % (two rows alone, so LoRA's margin holds there too), rounded up. Not
# covered: ms-swift and unsloth rows (up to +126 %), whose reserved counters grow with varying
# lengths until the card is full, under older software; a need is not read from them. "full" has
# no row: the same figure, an assumption.
UPPER_MARGIN = 0.25

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


class Moment(Struct, frozen=True, kw_only=True):
    """What is there beside weights, adapters and optimizer state at one time of the step."""

    name: str
    saved: int = 0  # activations kept for the backward pass
    gradients: int = 0  # of the parameters
    own: int = 0
    why: str

    @property
    def bytes(self) -> int:
        return self.saved + self.gradients + self.own


class Timeline(Struct, frozen=True, kw_only=True):
    """What stands throughout a step, and what is there beside it at each moment."""

    standing: tuple[MemoryTerm, ...]
    gradients: int  # once all are there
    through: int  # beside what stands when the layers are through: kept, copies, the last output
    moments: tuple[Moment, ...]


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
    gradients, *passing = _at_the_peak(_moments(shape, spec, device, widths, loss, prompt_tokens))
    standing.append(gradients)
    if device.kind == "cpu":
        why = "Python, torch, transformers, peft, trl at work"
        standing += [*mapped(shape, spec), _heap(shape, spec, widths)]
        standing.append(term("process", PROCESS_BYTES, why, "process"))
    else:
        standing.append(_slack(passing, CUDA_SLACK))
        if device.kind == "cuda":
            why = "assumption, per process"
            standing.append(term("CUDA context", CUDA_CONTEXT_BYTES, why, "process"))
    terms = (*standing, *passing)
    expected = sum(t.bytes for t in terms)
    margin = CPU_UPPER_MARGIN if device.kind == "cpu" else UPPER_MARGIN
    return Memory(terms=terms, expected_bytes=expected, upper_bytes=ceil(expected * (1 + margin)))


def timeline(
    shape: ModelShape, spec: ResolvedSpec, device: Device, loss: Loss = "chunked"
) -> Timeline:
    """The step's moments as torch allocates them: no slack, no context, no process, no evaluation.

    What benchmarks/vram_oracle.py is held against.
    """
    w = widths_of(spec)
    batch = batch_of(spec)
    saved = _saved(shape, spec, w, layer_at_work(shape, w, spec.lora.targets, batch))
    output = batch.tokens * shape.hidden_size * w.stream
    return Timeline(
        standing=(*weights(shape, spec), *trained(shape, spec, w)),
        gradients=gradient_bytes(shape, spec, w),
        through=saved + _normed(shape, w, batch) + output + _waiting_copies(shape, spec, w),
        moments=tuple(_moments(shape, spec, device, w, loss, None)),
    )


def host_bytes(shape: ModelShape, spec: ResolvedSpec, upper_bytes: int) -> int:
    """RAM of the machine: on a CPU all of it, beside a card the process and one weight file."""
    if spec.device == "cpu":
        return upper_bytes
    return HOST_PROCESS_BYTES + min(2 * shape.parameters, WEIGHT_FILE_BYTES)


def _at_the_peak(moments: list[Moment]) -> list[MemoryTerm]:
    """Gradients, saved activations, and what each moment adds: only the largest one counts."""
    largest = max(moments, key=lambda m: m.bytes)
    return [
        term("gradients", largest.gradients, f"of what is trained, at the peak ({largest.name})"),
        term("saved activations", largest.saved, f"at the peak ({largest.name})"),
        *(
            term(m.name, m.own, m.why)
            if m is largest
            else term(m.name, 0, f"{m.bytes / GIB:.2f} GiB beside the weights, not the peak")
            for m in moments
        ),
    ]


def _moments(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    w: Widths,
    loss: Loss,
    prompt_tokens: int | None,
) -> list[Moment]:
    """The times of a step that can be its peak, in their order."""
    batch = batch_of(spec)
    layer = layer_at_work(shape, w, spec.lora.targets, batch)
    saved = _saved(shape, spec, w, layer)
    gradients = gradient_bytes(shape, spec, w)
    # From the second micro-batch on gradients stand; with one a step they come as they are made.
    earlier = gradients if spec.train.effective_batch > spec.train.micro_batch else 0
    embedding = 4 * shape.vocab_size * shape.hidden_size if w.full else 0
    tied = embedding if shape.tied and not shape.outputs else 0
    normed = _normed(shape, w, batch)
    work, why = _layer(shape, spec, w, layer)
    size, loss_why = _loss(shape, spec, device, w, loss)
    norm = activations.norm_backward_per_token(shape.hidden_size) * batch.tokens
    found = [
        Moment(name="loss", saved=saved + normed, gradients=earlier, own=size, why=loss_why),
        Moment(
            name="last norm",
            saved=saved + normed,
            gradients=earlier,
            own=norm + tied,
            why="the gradient through the norm after the last layer",
        ),
        Moment(
            name="one layer at work",
            saved=saved,
            gradients=earlier,
            own=work + tied,  # a tied head's gradient waits for the embedding's
            why=why,
        ),
    ]
    if not spec.train.activation_checkpointing:
        # Variables hold the embeddings and the last layer's input; where the stream is fp32, norms
        # keep them already.
        held = min(shape.layers, 2) if w.stream < 4 else 0
        own = layer.forward - layer.kept + held * batch.tokens * shape.hidden_size * w.stream
        why = "the last layer's forward pass, beyond what it keeps"
        found.insert(0, Moment(name="forward", saved=saved, gradients=earlier, own=own, why=why))
    if not earlier:
        own = saved // shape.layers + work + tied
        why = "the first layer's backward pass, with the gradients of all others"
        there = (gradients - embedding) * (shape.layers - 1) // shape.layers
        found.append(Moment(name="first layer", gradients=there, own=own, why=why))
    if w.full:
        # The head's gradient, the embedding's and their sum; untied the embedding's alone.
        why = "the embedding's gradient, fp32" + (", the head's and their sum" if tied else "")
        found.append(
            Moment(
                name="embedding's gradient",
                gradients=earlier or gradients - embedding,
                own=embedding + 2 * tied,
                why=why,
            )
        )
    if w.full and spec.train.optimizer == "adamw_torch" and device.kind != "cpu":
        # torch optim/adam.py _multi_tensor_adam: the root of the second moment of all parameters
        size = 4 * shape.parameters
        why = "foreach AdamW's scratch"
        found.append(Moment(name="optimizer's scratch", gradients=gradients, own=size, why=why))
    if prompt_tokens is not None and spec.eval.generate and not shape.outputs:
        size, why = _evaluation(shape, spec, w, prompt_tokens)
        found.append(Moment(name="evaluation", own=size, why=why))
    return found


def _saved(shape: ModelShape, spec: ResolvedSpec, w: Widths, layer: Layer) -> int:
    """What all layers keep for the backward pass, and what they share.

    A checkpointed layer keeps its input (torch utils/checkpoint.py). Without, the first layer of a
    frozen model keeps less: what goes in has no gradient (with checkpoints trl gives it one, model.
    enable_input_require_grads).
    """
    batch = batch_of(spec)
    shared = activations.shared_by_layers(shape, w, batch)
    if spec.train.activation_checkpointing:
        return shared + shape.layers * batch.tokens * shape.hidden_size * w.stream
    first = layer.kept if w.full else layer.kept_first
    return shared + (shape.layers - 1) * layer.kept + first


def _normed(shape: ModelShape, w: Widths, batch: Batch) -> int:
    """What the norm after the last layer keeps until its own backward pass."""
    return batch.tokens * shape.hidden_size * (4 + (w.stream if w.full else 0))


def _waiting_copies(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> int:
    """Autocast's copies that no layer keeps: with checkpoints, until the forward pass ends."""
    return autocast_copies(shape, spec, w) if spec.train.activation_checkpointing else 0


def _layer(shape: ModelShape, spec: ResolvedSpec, w: Widths, layer: Layer) -> tuple[int, str]:
    """What the last layer's backward pass adds to what is saved."""
    tokens = micro_tokens(spec)
    stream = tokens * shape.hidden_size * w.stream
    if not spec.train.activation_checkpointing:
        return max(0, layer.backward - layer.kept), "gradient buffers beside the MLP"
    down = any(t.target and t.module == "down_proj" for t in shape.tensors(spec.lora.targets))
    # The layer's gradient, and the adapter branch's, wait while the layer is computed again.
    waiting = stream * (2 if down and not w.full else 1)
    if shape.norms_per_layer == 4:  # the norm after the MLP comes first, and works in fp32
        waiting = stream + 4 * tokens * shape.hidden_size
    again = max(layer.again + waiting, layer.backward)
    if w.stream == 4:
        again -= stream  # the first norm keeps the checkpoint itself
    why = f"computed again ({layer.kept / MIB:.0f} MiB kept) and its buffers"
    if w.nf4:
        linear = max((t.numel for t in shape.tensors() if t.four_bit), default=0)
        why += f", one weight dequantised ({linear * w.compute / MIB:.0f} MiB)"
    return again, why


def _loss(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, loss: Loss
) -> tuple[int, str]:
    """The most from the last norm's output to its gradient: the head."""
    tokens = micro_tokens(spec)
    if shape.outputs:
        # transformers modeling_layers.py GenericForSequenceClassification: scores at every token
        states = tokens * w.stream * shape.hidden_size
        own = states + max(states, _waiting_copies(shape, spec, w))
        return own, f"{shape.outputs} scores a token: the last states and their gradient"
    if loss == "plain":
        return PLAIN_LOSS_BYTES * tokens * shape.vocab_size, "whole logits"
    return _chunked(shape, spec, device, w, tokens)


def _chunked(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, tokens: int
) -> tuple[int, str]:
    """trl 1.16 kernels/chunked_logprob.py ChunkedLogProbFunction, all tokens supervised."""
    at_once = min(tokens, LOSS_TOKEN_CHUNK)
    columns = min(LOSS_VOCABULARY_CHUNK, shape.vocab_size)
    # The buffer is a whole chunk wide even where the vocabulary is smaller.
    buffer = at_once * LOSS_VOCABULARY_CHUNK * w.compute
    if w.compute < w.stream:  # fp32 weights and states are cast a chunk at a time, and in the
        # backward pass the next chunk while the one before is still named
        chunks = 2 if shape.vocab_size > columns else 1
        buffer += w.compute * shape.hidden_size * (chunks * columns + at_once)
    if device.kind != "cuda":
        buffer += LOSS_TILE_BYTES * at_once * columns
    forward = _waiting_copies(shape, spec, w)
    forward += 2 * w.stream * tokens * shape.hidden_size  # states, supervised ones again
    # The supervised states, their gradient in fp32, and in the states' dtype.
    narrow = w.stream if w.stream < 4 else 0
    backward = (w.stream + 4 + narrow) * tokens * shape.hidden_size
    if w.full:
        backward += 4 * shape.vocab_size * shape.hidden_size  # the head's fp32 gradient
    why = f"chunked: {at_once} tokens × {columns} logits at a time"
    return buffer + max(forward, backward), why


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
    why = f"{share:.0%} of {', '.join(t.name for t in terms if t.bytes)}"
    return term("allocator slack", size, why, "reserved")


def _heap(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> MemoryTerm:
    if spec.train.lean_heap:
        why = "lean_heap: freed blocks go back to the system"
        return term("allocator slack", 0, why, "reserved")
    per_token = activations.saved_per_token(shape, w, spec.lora.targets)
    whole = shape.layers * micro_tokens(spec) * per_token
    why = f"freed blocks the heap keeps: {CPU_HEAP_SHARE:.0%} of all layers' activations"
    return term("allocator slack", int(CPU_HEAP_SHARE * whole), why, "reserved")
