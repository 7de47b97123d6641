"""Bytes per token that the forward and backward passes of one decoder layer keep alive.

Derived by walking the modules of transformers 5.23 (modeling_llama.py and its kin, sdpa attention)
and peft 0.21 (tuners/lora/layer.py, Linear.forward), asking of each operation what autograd saves:
a frozen linear saves its weight, not its input; a trained one saves its input; a norm saves its
input in fp32; silu and the gate product save their operands; sdpa saves q, k, v and its output.
"""

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate.tensors import ModelShape, Tensor


class Widths(Struct, frozen=True, kw_only=True):
    """Bytes per element, and what makes a linear layer keep its input."""

    compute: int  # of the hidden stream
    adapter: int  # of LoRA's parameters, to which its input is cast
    autocast: bool  # matmuls cast their inputs back to `compute`
    dropout: bool  # LoRA dropout above 0
    full: bool  # every weight is trained


def micro_tokens(spec: ResolvedSpec) -> int:
    """Tokens of one forward pass, all rows full."""
    return min(spec.train.micro_batch, spec.train.effective_batch) * spec.train.seq_len


def saved_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """What one layer keeps from forward to backward, bytes per token."""
    norms = 4 * (shape.norms_per_layer * shape.hidden_size + _qk_norm_size(shape))
    attention = w.compute * 4 * shape.attention_size  # q, k and v repeated to all heads, output
    mlp = w.compute * 3 * shape.intermediate_size  # gate, its activation, up
    linears = [t for t in shape.tensors(targets) if t.kind == "linear"]
    inputs = sum(_saved_input(t, w) for t in linears)
    return norms + attention + mlp + inputs


def backward_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """Gradient buffers at the widest moment of a layer's backward pass, bytes per token.

    At the MLP: gradients of the product, gate and up; with an adapter on down_proj also the
    adapter's input and its gradient in the adapter's dtype.
    """
    buffers = 3 * w.compute * shape.intermediate_size
    if not w.full and "down_proj" in targets:
        buffers += 2 * w.adapter * shape.intermediate_size
    return buffers


def forward_per_token(shape: ModelShape, compute: int) -> int:
    """The widest moment of a layer without gradients: residual, fp32 norm, gate, up, product."""
    return (2 * compute + 4) * shape.hidden_size + 3 * compute * shape.intermediate_size


def kv_cache_per_token(shape: ModelShape, compute: int) -> int:
    """Keys and values of all layers, bytes per token."""
    return 2 * shape.layers * shape.kv_size * compute


def _qk_norm_size(shape: ModelShape) -> int:
    return shape.attention_size + shape.kv_size if shape.qk_norm else 0


def _saved_input(linear: Tensor, w: Widths) -> int:
    size_in = linear.shape[1]
    if w.full:
        return w.compute * size_in
    if not linear.target:
        return 0
    element = w.compute if w.autocast else w.adapter
    mask = (1 if w.autocast else w.adapter) if w.dropout else 0  # CPU keeps it in x's dtype
    return (element + mask) * size_in
