"""What a layer keeps and needs where it is not Llama's. Bytes.

Experts, an MLP without a gate, and attention that torch's fused kernels do not compute. Counted
from the modules of transformers 5.23, asking of each operation what autograd keeps of it, and held
against autograd's own storages on a CPU by `tests/integration/test_kept_activations.py`; no card
has measured them.
"""

from msgspec import Struct

from launcher.estimate.batch import Batch, Layer, Widths, unpacked_bytes
from launcher.estimate.tensors import ModelShape, Tensor

_BEHIND_THE_MLP = ("down_proj", "dense_4h_to_h")  # the linear layer that reads the product


class _Scores(Struct, frozen=True):
    """Bytes per query, key and head."""

    kept: int  # for the backward pass
    forward: int  # the most at once, `kept` in it
    backward: int  # the same
    moved: int  # read and written in a step: forward, forward again, backward


# The most at once as a dispatch mode saw it: layers of 4 heads, 512 to 1536 tokens, fp32 and bf16,
# the part that grows with the square of the tokens (2026-11-21). Moved: the operands and results of
# those operations in bf16, twice as many backward as forward.
_SCORES = {
    # gemma2/modeling_gemma2.py eager_attention_forward: tanh, and the softmax in fp32 and narrowed.
    "softcapped": _Scores(kept=8, forward=14, backward=16, moved=165),
    # One key head is broadcast, which fused kernels refuse (aten transformers/cuda/sdp_utils.cpp
    # check_batch_size_and_num_heads_dense): aten attention.cpp _scaled_dot_product_attention_math
    # keeps the softmax in fp32.
    "broadcast": _Scores(kept=4, forward=10, backward=12, moved=110),
}
_NONE = _Scores(kept=0, forward=0, backward=0, moved=0)


def is_unlike(shape: ModelShape) -> bool:
    """Whether the walk through Llama's layer (activations.py) is not this model's."""
    return bool(shape.experts) or not shape.gated or shape.attention != "fused"


def layer_at_work(shape: ModelShape, w: Widths, targets: tuple[str, ...], batch: Batch) -> Layer:
    """One decoder layer under the micro-batch, as sums: its moments are not told apart as well."""
    scores = pairs(shape, w.compute, batch.masked)
    stacks = merged(shape, targets, 0 if w.full else w.compute)
    kept = batch.tokens * saved_per_token(shape, w, targets) + batch.pairs * scores.kept
    kept += stacks.kept + _copies(shape, w, targets)
    largest = max((t.numel for t in shape.tensors() if t.four_bit), default=0) if w.nf4 else 0
    unpacked = unpacked_bytes(largest, w.compute)
    mlp = batch.tokens * mlp_at_work_per_token(shape, mlp_width(shape, w))
    forward = kept + max(mlp, batch.pairs * (scores.forward - scores.kept)) + unpacked
    at_mlp = batch.tokens * backward_per_token(shape, w, targets) + stacks.gradient
    backward = kept + max(at_mlp, batch.pairs * (scores.backward - scores.kept)) + unpacked
    return Layer(kept=kept, kept_first=kept, forward=forward, again=forward, backward=backward)


def _copies(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """Autocast's 16-bit copies of one layer's trained fp32 matrices."""
    if not w.autocast or not (w.full or w.adapter == 4):
        return 0
    linears = [t for t in shape.tensors(targets) if t.kind == "linear"]
    sizes = [t.parameters if w.full else sum(t.adapter(w.rank)) * t.count
             for t in linears if w.full or t.target]  # fmt: skip
    return w.compute * sum(sizes) // shape.layers


def saved_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """What one layer keeps from forward to backward, bytes per token, without a mask."""
    norms = shape.norms_per_layer * shape.hidden_size
    norms += shape.attention_size + shape.kv_size if shape.qk_norm else 0
    # q, k and v repeated to all heads, output; GPT-NeoX turns copies of q and k, and its v is a
    # view that keeps the product of all three
    attention = w.compute * (6 if shape.architecture == "gpt_neox" else 4) * shape.attention_size
    mlp = mlp_kept_per_token(shape, mlp_width(shape, w))
    mlp += kept_by_experts(shape, targets, mlp_width(shape, w), w.full)
    linears = [t for t in shape.tensors(targets) if t.kind == "linear"]
    return 4 * norms + attention + mlp + sum(_saved_input(t, w) for t in linears)


def _saved_input(linear: Tensor, w: Widths) -> int:
    size_in = linear.shape[1]
    if w.full:
        return w.compute * size_in
    if not linear.target:
        return 0
    element = w.compute if w.autocast else w.adapter
    mask = (1 if w.autocast else w.adapter) if w.dropout else 0  # CPU keeps it in x's dtype
    return (element + mask) * size_in


def backward_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """Gradient buffers at the widest moment of a layer's backward pass, bytes per token.

    At the MLP: gradients of the product, gate and up; with an adapter on the layer behind them
    also the adapter's input and its gradient in the adapter's dtype.
    """
    buffers = mlp_at_work_per_token(shape, mlp_width(shape, w))
    behind = any(t.target and t.module in _BEHIND_THE_MLP for t in shape.tensors(targets))
    if not w.full and not shape.experts and behind:
        buffers += 2 * w.adapter * shape.intermediate_size
    return buffers


def mlp_width(shape: ModelShape, w: Widths) -> int:
    """Bytes per element in the MLP.

    Autocast does not narrow the experts' product, which runs in the weights' dtype (transformers
    5.23 integrations/moe.py _grouped_mm): in full training fp32.
    """
    return 4 if shape.experts and w.full else w.compute


class Pairs(Struct, frozen=True, kw_only=True):
    """What attention needs for each pair of tokens in a row, bytes."""

    kept: int  # by every layer
    shared: int  # by all layers together: masks
    forward: int  # the most at once in one layer, `kept` in it
    backward: int  # the same
    moved: int  # in a step of one layer; 0 where a fused kernel keeps the scores to itself


def pairs(shape: ModelShape, compute: int, masked: bool) -> Pairs:
    """`masked`: the batch needs a mask in any case, as packed rows do.

    sdpa makes a bool mask a bias in each layer (aten attention.cpp convert_boolean_attn_mask).
    """
    scores = _SCORES.get(shape.attention, _NONE)
    kept, forward, backward = (
        shape.heads * size for size in (scores.kept, scores.forward, scores.backward)
    )
    shared = 0
    if shape.attention == "softcapped":  # eager: a bias for the layers that slide, one for others
        shared = 2 * compute
    elif shape.attention == "alibi":  # modeling_falcon.py FalconModel.forward: one of all heads
        shared = (shape.heads + 2) * compute + 2
    elif masked or shape.attention in ("masked", "broadcast"):
        shared = 1
        if shape.attention != "broadcast":
            kept, forward, backward = compute, compute, compute
    moved = shape.heads * scores.moved
    return Pairs(kept=kept, shared=shared, forward=forward, backward=backward, moved=moved)


def mlp_kept_per_token(shape: ModelShape, width: int) -> int:
    """What the MLP keeps beside the inputs of trained layers; `width`: bytes per element.

    Gated: the gate, its activation and the other projection. Else: what the activation reads.
    Experts (integrations/moe.py grouped_mm_experts_forward): the gated three for each expert
    passed, its output for the weight it is summed with, the router's softmax in fp32, and the
    orders there and back.
    """
    if shape.experts:
        passed = 3 * shape.intermediate_size + shape.hidden_size
        return shape.experts_per_token * (width * passed + 48) + 4 * shape.experts
    return (3 if shape.gated else 1) * width * shape.intermediate_size


def mlp_at_work_per_token(shape: ModelShape, width: int) -> int:
    """The MLP's widest moment: product, gate and up, or the activation's two sides.

    In the backward pass these are their gradients, beside what is kept.
    """
    if shape.experts:
        buffers = 3 * shape.intermediate_size + 2 * shape.hidden_size
        return width * shape.experts_per_token * buffers
    return (3 if shape.gated else 2) * width * shape.intermediate_size


def kept_by_experts(shape: ModelShape, targets: tuple[str, ...], width: int, full: bool) -> int:
    """Inputs of the experts that are trained, bytes per token; they take no dropout."""
    stacks = [t for t in shape.tensors(targets) if t.kind == "experts" and (t.target or full)]
    return width * shape.experts_per_token * sum(t.shape[-1] for t in stacks)


def adapted_experts(shape: ModelShape, targets: tuple[str, ...]) -> list[Tensor]:
    """The stacks of experts that an adapter sits on."""
    return [t for t in shape.tensors(targets) if t.kind == "experts" and t.target]


class Merged(Struct, frozen=True):
    """Stacks of experts of one layer with their adapters added in, bytes."""

    kept: int
    gradient: int  # of the largest, beside them


def merged(shape: ModelShape, targets: tuple[str, ...], width: int) -> Merged:
    """PEFT 0.21 adds the adapters to the whole stack in every forward pass, and autograd keeps it.

    tuners/lora/layer.py ParamWrapper._activate_lora; the sum's gradient is as large.
    """
    stacks = [width * t.numel for t in adapted_experts(shape, targets)]
    return Merged(kept=sum(stacks), gradient=max(stacks, default=0))
