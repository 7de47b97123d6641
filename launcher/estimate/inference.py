"""What one forward pass without gradients needs: loss on held-out rows, answers, fitting a head.

A walk through one decoder layer as in `activations.py`, by the same sources, except that autograd
keeps nothing: only what variables refer to is there. Llama's and Gemma's is what a real generate()
takes on a CPU to 0.1 % (tests/integration/test_answers_memory.py). Bytes.
"""

from functools import lru_cache
from typing import NamedTuple

from launcher.estimate import unlike_llama
from launcher.estimate.activations import shared_by_layers
from launcher.estimate.batch import Batch, Widths, unpacked_bytes
from launcher.estimate.tensors import ModelShape, Tensor

# int64 of every token: its id, whether it is padding, its position; and while prompts are read the
# id once more (transformers 5.23 generation/utils.py prepare_inputs_for_generation).
INPUT_BYTES = 3 * 8
PROMPT_BYTES = INPUT_BYTES + 8


class Asked(NamedTuple):
    """How the model is asked."""

    autocast: bool  # matmuls cast their inputs; peft's generate and jobs/heads.py go beneath it
    cached: bool  # keys and values of all layers are kept
    adapters: bool  # LoRA takes part
    own_positions: bool = False  # generate() counts positions from each row's first token


@lru_cache(maxsize=256)  # a plan asks the same of every offer
def layers_at_work(
    shape: ModelShape, w: Widths, targets: tuple[str, ...], batch: Batch, asked: Asked
) -> int:
    """The most at once while the last layer works, what all layers share and cache in it.

    Model.forward's variables hold the embeddings beside the layer's input.
    """
    stream = batch.tokens * shape.hidden_size * w.stream
    embeddings = stream if shape.layers > 1 else 0
    around = shared_by_layers(shape, w, batch, own_positions=asked.own_positions) + embeddings
    around += PROMPT_BYTES * batch.tokens if asked.own_positions else 0
    if asked.cached:
        around += batch.tokens * kv_cache_per_token(shape, w)
    if unlike_llama.is_unlike(shape):
        return around + _sums(shape, w, targets, batch, asked)
    walk = _Walk(shape, w, targets if asked.adapters else (), batch, asked)
    walk.attention_block()
    walk.mlp_block()
    return around + walk.most


def cached_per_token(shape: ModelShape, w: Widths) -> int:
    """One layer's keys, or values, as cached.

    Rotations turn keys into the stream's dtype, and transformers 5.23 cache_utils.py DynamicLayer.
    lazy_initialization keeps values in the dtype of keys.
    """
    return (shape.cached_kv_heads or shape.kv_heads) * shape.head_dim * w.stream


def kv_cache_per_token(shape: ModelShape, w: Widths) -> int:
    """Keys and values of all layers."""
    return 2 * shape.layers * cached_per_token(shape, w)


def first_token(shape: ModelShape, w: Widths, prompts: Batch, asked: Asked) -> int:
    """The most at once at the head, after the layers: the last states, and one token a row."""
    states = prompts.tokens * shape.hidden_size * w.stream
    cache = prompts.tokens * kv_cache_per_token(shape, w)
    return cache + states + next_logits(shape, w, prompts.rows, asked)


def last_token(
    shape: ModelShape, w: Widths, targets: tuple[str, ...], rows: int, tokens: int, asked: Asked
) -> int:
    """The most at once when rows of so many tokens each get one more.

    transformers 5.23 cache_utils.py DynamicLayer.update copies one layer's keys into a tensor that
    is longer by one, then its values; layers that slide have at most their window, and copy both
    before either is let go. At other times a 4-bit weight is unpacked, or the head works.
    """
    sliding = shape.window.layers if shape.window is not None else 0
    seen = min(tokens, shape.window.tokens - 1) if shape.window is not None else 0
    one_layer = rows * cached_per_token(shape, w)
    cache = 2 * one_layer * ((shape.layers - sliding) * tokens + sliding * seen)
    longer = one_layer * max(tokens if sliding < shape.layers else 0, 2 * seen)
    one = Batch(rows=rows, length=1, masked=False)
    layer = layers_at_work(shape, w, targets, one, asked)
    inputs = INPUT_BYTES * rows * tokens
    return cache + inputs + max(longer, layer, next_logits(shape, w, rows, asked))


def next_logits(shape: ModelShape, w: Widths, rows: int, asked: Asked) -> int:
    """Of one token a row, and their copy in fp32 (transformers 5.23 generation/utils.py _sample).

    Autocast first narrows the head's weight, and accelerate widens the logits again.
    """
    logits = rows * shape.vocab_size
    if asked.autocast and w.compute < w.stream:
        head = w.compute * shape.vocab_size * shape.hidden_size
        return max(head + w.compute * logits, (4 + 4) * logits)
    return (w.stream + 4) * logits


def _sums(
    shape: ModelShape, w: Widths, targets: tuple[str, ...], batch: Batch, asked: Asked
) -> int:
    """Of a layer that is not Llama's: three streams, and the largest of what works beside them.

    Such layers' moments are not told apart as well; tests/integration/test_answers_memory.py holds
    them against real ones on a CPU: 0.97 to 1.03 times (2026-11-21).
    """
    c = w.compute if asked.autocast else w.stream
    scores = unlike_llama.pairs(shape, c, batch.masked).forward
    if shape.attention == "softcapped":  # nothing is kept: scores, in fp32, and the softmax of them
        scores = shape.heads * (6 + 2 * c)
    mlp = unlike_llama.mlp_at_work_per_token(shape, c)
    if shape.experts:  # the tokens in their order; gate and up, the activation and the product
        mlp = c * shape.experts_per_token * (shape.hidden_size + 4 * shape.intermediate_size)
    at_work = [mlp, 8 * shape.hidden_size]
    own = c if asked.autocast else w.adapter
    for t in shape.tensors(targets if asked.adapters and not w.full else ()):
        if t.target and t.kind == "linear":
            cast = w.adapter * t.shape[1] if w.adapter > c else 0
            at_work.append(cast + (c + 2 * own) * t.shape[0])
    norms = 2 if shape.cached_kv_heads else 1  # Falcon's newer layers norm their input twice
    streams = (2 + norms) * w.stream * shape.hidden_size
    stacks = unlike_llama.merged(shape, targets, 0 if w.full else c)
    largest = max((t.numel for t in shape.tensors() if t.four_bit), default=0) if w.nf4 else 0
    unpacked = unpacked_bytes(largest, c) if w.nf4 else 0
    work = max(batch.tokens * max(at_work), batch.pairs * scores)
    return batch.tokens * streams + work + stacks.kept + unpacked


class _Walk:
    """Through one layer: what variables hold, and the most at once."""

    def __init__(
        self,
        shape: ModelShape,
        w: Widths,
        targets: tuple[str, ...],
        batch: Batch,
        asked: Asked,
    ) -> None:
        self.shape, self.w, self.batch, self.asked = shape, w, batch, asked
        self.stream, self.tokens = w.stream, batch.tokens
        self.product = w.compute if asked.autocast else w.stream  # dtype of what matmuls write
        self.linears = {t.module: t for t in shape.tensors(targets) if t.kind == "linear"}
        self.held = self.most = 0
        self.hold(self.stream * shape.hidden_size)  # the layer's input

    def need(self, *sizes: int, once: int = 0) -> None:
        """Bytes per token, and `once`, that are there at once with all that is held."""
        self.most = max(self.most, self.held + self.tokens * sum(sizes) + once)

    def hold(self, size: int) -> None:
        """Bytes per token that a variable refers to from now on; negative: no longer."""
        self.held += self.tokens * size

    def attention_block(self) -> None:
        s, c = self.shape, self.product
        normed = self.stream * s.hidden_size
        self.norm(s.hidden_size)
        self.hold(normed)
        if self.asked.cached:  # `layers_at_work` counts this layer's from the start
            self.hold(-2 * s.kv_size * self.stream)
        if s.fused:
            self.linear("qkv_proj", self.stream)
            self.hold(c * (s.attention_size + 2 * s.kv_size))
        else:
            for name in ("q_proj", "k_proj", "v_proj"):
                self.linear(name, self.stream)
                self.hold(c * self.linears[name].shape[0])
        if s.qk_norm:
            self.norm(s.attention_size)
            self.norm(s.kv_size)
        after = self.attend()
        self.linear("o_proj", c)
        self.hold(c * s.hidden_size - after - normed)
        if s.norms_per_layer == 4:
            self.norm(s.hidden_size)
        self.need(self.stream * s.hidden_size)  # the sum with the residual
        self.hold((self.stream - c) * s.hidden_size)

    def attend(self) -> int:
        """From q, k and v to attention's output; returns what of them is held beside it a token.

        modeling_llama.py apply_rotary_pos_emb, cache_utils.py DynamicLayer.update,
        sdpa_attention.py sdpa_attention_forward. Torch's kernels keep the sums of exponentials.
        """
        s, c = self.shape, self.product
        turned = max(c, self.stream)
        query, keys = turned * s.attention_size, turned * s.kv_size
        value = turned if self.asked.cached else c  # an element of the values
        self.need(3 * query)
        self.hold(query)
        self.need(3 * keys)
        self.hold(keys - c * (s.attention_size + s.kv_size))
        base = c * (s.attention_size + s.kv_size) if s.fused and not self.asked.cached else 0
        self.hold(base)  # values that are a part of one product, kept whole
        if self.asked.cached:
            self.need(2 * keys)
            self.hold((turned - c) * s.kv_size)
        repeated = self.batch.masked and s.kv_heads not in (1, s.heads)
        size = s.attention_size if repeated else s.kv_size  # of keys, and of values
        again = (turned + value) * size if repeated else 0
        cast = [s.attention_size, size] if turned != c else []
        cast += [size] if value != c else []
        out = c * s.attention_size
        bias = c * self.batch.mask_elements
        self.need(again, c * sum(cast), out, 4 * s.heads, once=bias)
        self.hold(out)
        return out + query + base + (0 if self.asked.cached else keys + c * s.kv_size)

    def mlp_block(self) -> None:
        s = self.shape
        inner = self.product * s.intermediate_size
        self.norm(s.hidden_size)
        self.hold(self.stream * s.hidden_size)
        if s.fused:
            self.linear("gate_up_proj", self.stream)
            self.hold(2 * inner)
            self.need(2 * inner)  # the activation and the product; the gate holds both halves
            self.hold(inner)
        else:
            self.linear("gate_proj", self.stream)
            self.need(2 * inner)
            self.hold(inner)  # the activation
            self.linear("up_proj", self.stream)
            self.need(2 * inner)  # and the product of both
        self.linear("down_proj", self.product)
        if s.norms_per_layer == 4:
            self.norm(s.hidden_size)

    def norm(self, size: int) -> None:
        """modeling_llama.py LlamaRMSNorm: an fp32 copy and its square, then two in the stream's."""
        self.need(8 * size)

    def linear(self, name: str, width: int) -> None:
        """A linear layer and its adapter; `width` is its input's."""
        t, w, c = self.linears[name], self.w, self.product
        rows, columns = t.shape
        out = c * rows
        weight = unpacked_bytes(t.numel, c) if w.nf4 else c * t.numel if w.stream != c else 0
        self.need(out, c * columns if width != c else 0, once=weight)
        if w.full or not t.target:
            return
        self.adapter(t, width, out)

    def adapter(self, t: Tensor, width: int, out: int) -> None:
        """peft layer.py Linear.forward, bnb.py Linear4bit.forward, beside the base's output."""
        w, c, autocast = self.w, self.product, self.asked.autocast
        rows, columns = t.shape
        cast = w.adapter * columns if w.adapter != width and not (w.nf4 and autocast) else 0
        own = c if autocast else w.adapter  # of what LoRA's products are written in
        narrowed = c * columns if cast and autocast else 0
        self.need(out, cast, narrowed, own * w.rank)
        self.need(out, cast, own * w.rank, own * rows)
        self.need(out, cast, 2 * own * rows)  # as it is, and scaled; or scaled, and the sum
