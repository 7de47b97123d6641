"""The times of a job that can be its peak: one step's, and those at which the model is asked.

Each says what is there beside weights, adapters and optimizer state. Bytes. Saving is none of them:
neither safetensors' save_file nor torch.save of the 8-bit optimizer's state makes a tensor on the
device (0 of 25 MB under a dispatch mode, 2026-11-21); they copy one by one to the host.
"""

from typing import Literal

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate import activations, inference
from launcher.estimate.activations import layer_at_work
from launcher.estimate.batch import Batch, Layer, Widths, batch_of, masked, micro_tokens
from launcher.estimate.inference import Asked
from launcher.estimate.tensors import ModelShape
from launcher.estimate.weights import autocast_copies, gradient_bytes
from launcher.types import MIB, Device

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
# The moments of evaluation: how much of them a job meets hangs on its rows and answers.
WITHOUT_GRADIENTS = ("evaluation", "fitting the head", "prompts", "last token")


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


def moments(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    w: Widths,
    loss: Loss,
    prompt_tokens: int | None,
) -> list[Moment]:
    """In their order; `prompt_tokens` is the longest row's, None where the model is not asked."""
    batch = batch_of(spec, shape.window)
    layer = layer_at_work(shape, w, spec.lora.targets, batch)
    saved = saved_by_layers(shape, spec, w, layer)
    gradients = gradient_bytes(shape, spec, w)
    if spec.sharding == "full":
        gradients //= spec.processes
    # From the second micro-batch on gradients stand; with one a step they come as they are made.
    at_once = spec.train.micro_batch * spec.processes
    earlier = gradients if spec.train.effective_batch > at_once else 0
    embedding = 4 * shape.vocab_size * shape.hidden_size if w.full else 0
    tied = embedding if shape.tied and not shape.outputs else 0
    normed = kept_by_last_norm(shape, w, batch)
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
    return found + ([] if prompt_tokens is None else _asked(shape, spec, device, w, prompt_tokens))


def _asked(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, prompt_tokens: int
) -> list[Moment]:
    """The times without gradients; optimizer state stands, since the last of each is at the end.

    The loss is taken on micro-batches as in training (jobs/arguments.py). Base and tuned model
    answer questions (jobs/evaluate.py); a student's head is fitted on as many texts at once
    (jobs/heads.py), before adapters and optimizer state are there: counted all the same, up to 2 %.
    """
    batch, targets = batch_of(spec, shape.window), spec.lora.targets
    scored = Asked(autocast=w.autocast, cached=False, adapters=True)
    own = inference.layers_at_work(shape, w, targets, batch, scored)
    if not shape.outputs:
        states = 2 * batch.tokens * shape.hidden_size * w.stream
        own = max(own, states + _logits_buffer(shape, device, w, batch.tokens, weight_chunks=1))
    own += autocast_copies(shape, spec, w)
    why = f"the loss of {batch.rows} held-out rows, without gradients"
    found = [Moment(name="evaluation", own=own, why=why)]
    rows = spec.eval.batch
    needed = masked(rows, prompt_tokens, shape.window)
    prompts = Batch(rows=rows, length=prompt_tokens, masked=needed)
    if shape.outputs and spec.regression is not None and spec.regression.head == "fitted":
        plain = Asked(autocast=False, cached=True, adapters=False)
        own = inference.layers_at_work(shape, w, targets, prompts, plain)
        why = f"{rows} texts of {prompts.length} tokens at once, keys and values kept"
        found.append(Moment(name="fitting the head", own=own, why=why))
    if spec.eval.generate and not shape.outputs:
        asked = Asked(
            autocast=w.full and w.autocast, cached=True, adapters=True, own_positions=True
        )
        own = inference.layers_at_work(shape, w, targets, prompts, asked)
        own = max(own, inference.first_token(shape, w, prompts, asked))
        cached = f"with {inference.kv_cache_per_token(shape, w) / 1024:.0f} KiB of cache a token"
        why = f"{rows} questions of {prompts.length} tokens at once, {cached}"
        found.append(Moment(name="prompts", own=own, why=why))
        most = prompts.length + spec.eval.max_new_tokens
        own = inference.last_token(shape, w, targets, rows, most - 2, asked)
        why = f"{rows} answers of {spec.eval.max_new_tokens} tokens, {cached}"
        found.append(Moment(name="last token", own=own, why=why))
    return found


def saved_by_layers(shape: ModelShape, spec: ResolvedSpec, w: Widths, layer: Layer) -> int:
    """What all layers keep for the backward pass, and what they share.

    A checkpointed layer keeps its input (torch utils/checkpoint.py). Without, the first layer of a
    frozen model keeps less: what goes in has no gradient (with checkpoints trl gives it one, model.
    enable_input_require_grads).
    """
    batch = batch_of(spec, shape.window)
    shared = activations.shared_by_layers(shape, w, batch)
    if spec.train.activation_checkpointing:
        return shared + shape.layers * batch.tokens * shape.hidden_size * w.stream
    first = layer.kept if w.full else layer.kept_first
    return shared + (shape.layers - 1) * layer.kept + first


def kept_by_last_norm(shape: ModelShape, w: Widths, batch: Batch) -> int:
    """What the norm after the last layer keeps until its own backward pass."""
    return batch.tokens * shape.hidden_size * (4 + (w.stream if w.full else 0))


def waiting_copies(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> int:
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
        own = states + max(states, waiting_copies(shape, spec, w))
        return own, f"{shape.outputs} scores a token: the last states and their gradient"
    if loss == "plain":
        return PLAIN_LOSS_BYTES * tokens * shape.vocab_size, "whole logits"
    return _chunked(shape, spec, device, w, tokens)


def _chunked(
    shape: ModelShape, spec: ResolvedSpec, device: Device, w: Widths, tokens: int
) -> tuple[int, str]:
    """trl 1.16 kernels/chunked_logprob.py ChunkedLogProbFunction, all tokens supervised."""
    forward = waiting_copies(shape, spec, w)
    forward += 2 * w.stream * tokens * shape.hidden_size  # states, supervised ones again
    forward += _logits_buffer(shape, device, w, tokens, weight_chunks=1)
    # The supervised states, their gradient in fp32, and in the states' dtype.
    narrow = w.stream if w.stream < 4 else 0
    backward = (w.stream + 4 + narrow) * tokens * shape.hidden_size
    if w.full:
        backward += 4 * shape.vocab_size * shape.hidden_size  # the head's fp32 gradient
    # The next chunk of the weight is cast while the one before is still named.
    chunks = 2 if shape.vocab_size > LOSS_VOCABULARY_CHUNK else 1
    backward += _logits_buffer(shape, device, w, tokens, weight_chunks=chunks)
    at_once = min(tokens, LOSS_TOKEN_CHUNK)
    columns = min(LOSS_VOCABULARY_CHUNK, shape.vocab_size)
    why = f"chunked: {at_once} tokens × {columns} logits at a time"
    return max(forward, backward), why


def _logits_buffer(
    shape: ModelShape, device: Device, w: Widths, tokens: int, *, weight_chunks: int
) -> int:
    """What the head writes to, whole chunks wide even where the vocabulary is smaller.

    Weights and states in fp32 are cast a chunk at a time.
    """
    at_once = min(tokens, LOSS_TOKEN_CHUNK)
    columns = min(LOSS_VOCABULARY_CHUNK, shape.vocab_size)
    buffer = at_once * LOSS_VOCABULARY_CHUNK * w.compute
    if w.compute < w.stream:
        buffer += w.compute * shape.hidden_size * (weight_chunks * columns + at_once)
    if device.kind != "cuda":
        buffer += LOSS_TILE_BYTES * at_once * columns
    return buffer
