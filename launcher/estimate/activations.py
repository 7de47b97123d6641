"""Bytes per token that the forward and backward passes of one decoder layer keep alive.

Derived by walking the modules of transformers 5.23 (modeling_llama.py and its kin, sdpa attention)
and peft 0.21 (tuners/lora/layer.py, Linear.forward), asking of each operation what autograd saves:
a frozen linear saves its weight, not its input; a trained one saves its input; a norm saves its
input in fp32; silu and the gate product save their operands; sdpa saves q, k, v and its output.
Other layers than Llama's are in `unlike_llama.py`.
"""

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate import unlike_llama
from launcher.estimate.tensors import ModelShape, Tensor

_BEHIND_THE_MLP = ("down_proj", "dense_4h_to_h")  # the linear layer that reads the product


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
    # q, k and v repeated to all heads, output; GPT-NeoX turns copies of q and k, and its v is a
    # view that keeps the product of all three
    attention = w.compute * (6 if shape.architecture == "gpt_neox" else 4) * shape.attention_size
    mlp = unlike_llama.mlp_kept_per_token(shape, mlp_width(shape, w))
    mlp += unlike_llama.kept_by_experts(shape, targets, mlp_width(shape, w), w.full)
    linears = [t for t in shape.tensors(targets) if t.kind == "linear"]
    inputs = sum(_saved_input(t, w) for t in linears)
    return norms + attention + mlp + inputs


def backward_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """Gradient buffers at the widest moment of a layer's backward pass, bytes per token.

    At the MLP: gradients of the product, gate and up; with an adapter on the layer behind them
    also the adapter's input and its gradient in the adapter's dtype.
    """
    buffers = unlike_llama.mlp_at_work_per_token(shape, mlp_width(shape, w))
    behind = any(t.target and t.module in _BEHIND_THE_MLP for t in shape.tensors(targets))
    if not w.full and not shape.experts and behind:
        buffers += 2 * w.adapter * shape.intermediate_size
    return buffers


def forward_per_token(shape: ModelShape, compute: int) -> int:
    """The widest moment of a layer without gradients: residual, fp32 norm, gate, up, product."""
    stream = (2 * compute + 4) * shape.hidden_size
    return stream + unlike_llama.mlp_at_work_per_token(shape, compute)


def mlp_width(shape: ModelShape, w: Widths) -> int:
    """Bytes per element in the MLP.

    Autocast does not narrow the experts' product, which runs in the weights' dtype (transformers
    5.23 integrations/moe.py _grouped_mm): in full training fp32.
    """
    return 4 if shape.experts and w.full else w.compute


def kv_cache_per_token(shape: ModelShape, compute: int) -> int:
    """Keys and values of all layers, bytes per token."""
    heads = shape.cached_kv_heads or shape.kv_heads
    return 2 * shape.layers * heads * shape.head_dim * compute


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
