"""What one decoder layer keeps and needs while it works, forward and backward. Bytes.

A walk through the layer's operations in their order, as transformers 5.23 (modeling_llama.py and
its kin, sdpa attention) and peft 0.21 (tuners/lora/layer.py Linear.forward, bnb.py
Linear4bit.forward) call them, asking of each what it makes, what autograd keeps of it (torch
tools/autograd/derivatives.yaml) and what is gone when it is over:
a frozen linear keeps nothing but its weight; a trained one its input; a norm its input in fp32;
silu and the gate product their operands; attention q, k, v and its output; dropout its mask.
Other layers than Llama's are summed up in `unlike_llama.py`.
"""

from functools import lru_cache

from launcher.estimate import unlike_llama
from launcher.estimate.batch import Batch, Layer, Widths, unpacked_bytes
from launcher.estimate.tensors import ModelShape


@lru_cache(maxsize=256)  # a plan asks the same of every offer
def layer_at_work(shape: ModelShape, w: Widths, targets: tuple[str, ...], batch: Batch) -> Layer:
    """One decoder layer under the micro-batch."""
    if unlike_llama.is_unlike(shape):
        return unlike_llama.layer_at_work(shape, w, targets, batch)
    walk = _Walk(shape, w, targets, batch)
    walk.attention_block()
    walk.mlp_block()
    return Layer(
        kept=walk.kept,
        kept_first=walk.kept - walk.only_with_a_gradient,
        forward=walk.most,
        again=walk.most_again,
        backward=walk.backward(),
    )


class _Walk:
    """Through one layer: what autograd keeps so far, what variables hold, and the most at once."""

    def __init__(
        self, shape: ModelShape, w: Widths, targets: tuple[str, ...], batch: Batch
    ) -> None:
        self.shape, self.w, self.batch, self.tokens = shape, w, batch, batch.tokens
        self.linears = {t.module: t for t in shape.tensors(targets) if t.kind == "linear"}
        self.kept = self.held = self.most = self.most_again = 0
        self.only_with_a_gradient = 0  # kept only where the layer's input has a gradient
        self.kept_by_down = 0

    def need(self, *sizes: int) -> None:
        """Bytes per token that are there at once with all that is kept and held."""
        self.most = max(self.most, self.kept + self.held + self.tokens * sum(sizes))

    def keep(self, size: int) -> None:
        """Bytes per token, for the backward pass.

        torch utils/checkpoint.py computes a layer again no further than to the last tensor kept.
        """
        self.kept += self.tokens * size
        self.most_again = self.most

    def hold(self, size: int) -> None:
        """Bytes per token that a variable refers to; negative: no longer."""
        self.held += self.tokens * size

    def attention_block(self) -> None:
        s, w = self.shape, self.w
        self.norm(s.hidden_size, w.stream)
        self.only_with_a_gradient += self.kept
        first = ("qkv_proj",) if s.fused else ("q_proj", "k_proj", "v_proj")
        held = self.input(first, w.stream)
        for name in first:
            self.linear(name, w.stream)
        if self.w.dropout and not self.w.full:
            self.only_with_a_gradient += sum(
                self.tokens * self.mask_width * self.linears[n].shape[1]
                for n in first
                if self.linears[n].target
            )
        if s.qk_norm:
            self.norm(s.attention_size, w.compute)
            self.norm(s.kv_size, w.compute)
        self.attend()
        if not w.full and not any(self.linears[n].target for n in first):
            self.only_with_a_gradient = self.kept
        self.linear("o_proj", w.compute)
        self.hold(-held)
        if s.norms_per_layer == 4:
            self.norm(s.hidden_size, w.compute)
        self.hold(w.stream * s.hidden_size)  # the stream after attention

    def attend(self) -> None:
        """Queries and keys turned by their position, and attention over them.

        A mask makes the keys and values be repeated for all query heads (transformers
        sdpa_attention.py use_gqa_in_sdpa; a single head is only expanded) and is itself made a bias
        in each layer (aten attention.cpp convert_boolean_attn_mask). Kept beside: the sums of the
        exponentials.
        """
        s, c = self.shape, self.w.compute
        repeated = self.batch.masked and s.kv_heads > 1
        shared = s.attention_size if repeated else s.kv_size
        self.keep(c * (2 * s.attention_size + 2 * shared) + 4 * s.heads)
        if s.fused and shared == s.kv_size:  # the values are a part of one product, kept whole
            self.keep(c * (s.attention_size + s.kv_size))
        self.kept += c * self.batch.mask_elements
        self.need()

    def mlp_block(self) -> None:
        s, w = self.shape, self.w
        inner = w.compute * s.intermediate_size
        self.norm(s.hidden_size, w.stream)
        self.input(("gate_up_proj",) if s.fused else ("gate_proj", "up_proj"), w.stream)
        if s.fused:
            self.linear("gate_up_proj", w.stream)
            self.keep(3 * inner)
        else:
            self.linear("gate_proj", w.stream)
            self.keep(2 * inner)  # the gate, and its activation
            self.linear("up_proj", w.stream)
            self.keep(inner)
        before = self.kept
        self.hold(inner)  # the product
        self.need()
        if self.keeps_input("down_proj", w.compute):
            self.hold(-inner)
            self.keep(inner)
        self.linear("down_proj", w.compute)
        self.kept_by_down = self.kept - before
        if s.norms_per_layer == 4:
            self.norm(s.hidden_size, w.compute)

    def norm(self, size: int, width: int) -> None:
        """modeling_llama.py LlamaRMSNorm: an fp32 copy, and where trained the normed input."""
        self.need(8 * size, width * size)
        self.keep(4 * size + (width * size if self.w.full else 0))

    def keeps_input(self, name: str, width: int) -> bool:
        """Whether a linear keeps its input itself rather than a copy or a part of it."""
        w = self.w
        if w.full:
            return width == w.compute
        return self.linears[name].target and not w.dropout and not w.widened

    def input(self, names: tuple[str, ...], width: int) -> int:
        """What several linears read: kept once, or held; returns what is held of it a token."""
        size = width * self.linears[names[0]].shape[1]
        if any(self.keeps_input(name, width) for name in names):
            self.keep(size)
            return 0
        self.hold(size)
        return size

    @property
    def mask_width(self) -> int:
        """Dropout's mask: bool from aten::native_dropout on cards; on CPU in the input's dtype."""
        return 1 if self.w.autocast else self.w.adapter

    def linear(self, name: str, width: int) -> None:
        """A linear layer and its adapter; `width` is its input's."""
        t, w = self.linears[name], self.w
        rows, columns = t.shape
        out = w.compute * rows
        if w.nf4:
            self.most = max(
                self.most,
                self.kept + self.held + self.tokens * out + unpacked_bytes(t.numel, w.compute),
            )
        if w.full:
            if width != w.compute:
                self.keep(w.compute * columns)
            if w.autocast:
                self.kept += w.compute * t.numel
        if w.full or not t.target:
            self.need(out)
            self.most_again = self.most  # the weight is kept, for its input's gradient
            return
        x = w.adapter if w.widened else width
        cast = w.compute * columns if x != w.compute else 0
        mask, dropped = (self.mask_width * columns, x * columns) if w.dropout else (0, 0)
        self.need(out, x * columns if w.widened else 0, mask, dropped, cast)
        self.keep(mask + (cast or dropped) + w.compute * w.rank)
        if w.autocast and w.adapter != w.compute:
            self.kept += w.compute * w.rank * (rows + columns)
        self.need(3 * out)  # the base's, the adapter's, and their sum

    def backward(self) -> int:
        """The most at once in the backward pass, from the layer's output to the gate product.

        That is where buffers are as wide as the MLP while nearly all is still kept; autograd runs
        the adapter's branch before the base's, which came first.
        """
        s, w = self.shape, self.w
        t = self.linears["down_proj"]
        inner = self.tokens * s.intermediate_size
        grad = self.tokens * s.hidden_size * w.stream
        base = t.numel * w.compute if w.nf4 else 0
        rest = self.kept - self.kept_by_down
        most = [rest + grad + 3 * w.compute * inner]  # of the product, of the gate's, of up's
        if w.full and w.autocast:  # the weight's gradient in 16 bits, then also in fp32
            most.append(self.kept + grad + w.compute * (inner + t.numel))
            most.append(rest + grad + w.compute * (inner + t.numel) + 4 * t.numel)
            return max(most)
        if w.full or not t.target:
            base += 4 * t.numel if w.full else 0
            most.append(self.kept + grad + w.compute * inner + base)
            return max(most)
        mask = self.mask_width * inner if w.dropout else 0
        if w.widened:  # the copy's gradient in fp32, and after dropout
            most.append(rest + mask + grad + (4 + (4 if w.dropout else w.compute)) * inner)
        elif w.dropout:
            most.append(rest + mask + grad + 2 * w.compute * inner)
        most.append(rest + grad + 2 * w.compute * inner + base)
        most.append(rest + grad + 3 * w.compute * inner)
        return max(most)


def shared_by_layers(
    shape: ModelShape, w: Widths, batch: Batch, *, own_positions: bool = False
) -> int:
    """Masks, one byte an element, and the cosines and sines of all positions, a row's or all rows'.

    Gemma 3 has one of each for either kind of layer (modeling_gemma3.py Gemma3TextModel.forward).
    """
    alternating = shape.architecture.startswith("gemma3")
    rotations = 2 if alternating else 1
    if unlike_llama.is_unlike(shape):
        masks = unlike_llama.pairs(shape, w.compute, batch.masked).shared * batch.pairs
    else:
        masks = (2 if alternating else 1) * batch.mask_elements
    positions = batch.tokens if own_positions else batch.length
    return masks + rotations * 2 * positions * shape.head_dim * w.stream


def saved_per_token(shape: ModelShape, w: Widths, targets: tuple[str, ...]) -> int:
    """What one layer keeps from forward to backward, bytes per token, without a mask."""
    if unlike_llama.is_unlike(shape):
        return unlike_llama.saved_per_token(shape, w, targets)
    one = Batch(rows=1, length=1, masked=False)
    far = Batch(rows=2, length=1, masked=False)
    kept = [layer_at_work(shape, w, targets, batch).kept for batch in (one, far)]
    return kept[1] - kept[0]  # less the weights' copies


def norm_backward_per_token(hidden_size: int) -> int:
    """The most at once in a norm's backward pass, beside its input.

    The gradient by the input, and of the mean square: its share, x¹, 2 x¹ and their product
    (derivatives.yaml: mul, mean, pow_backward), all fp32.
    """
    return 5 * 4 * hidden_size
