"""From a transformers config.json to every tensor of the model.

One row per kind of tensor, with how often it occurs, so that counting costs microseconds. The
layouts follow transformers 5.23 `models/<family>/modeling_<family>.py`; a test in
`tests/integration/test_shapes_meta.py` holds them against the real classes on the meta device.
"""

from functools import lru_cache
from math import prod
from typing import Any, Literal

from msgspec import Struct

from jobs.spec import SEVEN_PROJECTIONS
from launcher.errors import BadInput

Kind = Literal["embedding", "linear", "norm", "bias", "head"]


class Tensor(Struct, frozen=True):
    """One tensor of the model, occurring `count` times (once per layer, or once)."""

    name: str  # as in the state dict, with * for the layer's number
    shape: tuple[int, ...]
    kind: Kind
    count: int
    target: bool  # a LoRA adapter sits on it

    @property
    def numel(self) -> int:
        """Elements of one occurrence."""
        return prod(self.shape)

    @property
    def parameters(self) -> int:
        """Elements of all occurrences."""
        return self.numel * self.count

    @property
    def module(self) -> str:
        """The module's own name, as PEFT's target_modules match it."""
        return self.name.rsplit(".", 2)[-2]


class ModelShape(Struct, frozen=True, kw_only=True):
    """The dimensions of a decoder-only language model."""

    architecture: str  # transformers' model_type
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool  # the head shares the embedding's tensor
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    norms_per_layer: int
    fused: bool  # one qkv_proj and one gate_up_proj (Phi-3)
    outputs: int = 0  # of a regression head in the language model head's place; 0: none

    @property
    def attention_size(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together (as many values)."""
        return self.kv_heads * self.head_dim

    @property
    def head_parameters(self) -> int:
        """Of the matrix that ends the forward pass: vocabulary or scores."""
        return (self.outputs or self.vocab_size) * self.hidden_size

    def tensors(self, targets: tuple[str, ...] = SEVEN_PROJECTIONS) -> tuple[Tensor, ...]:
        """Every tensor, tied ones once; `target` where PEFT would put an adapter."""
        return _tensors(self, targets)

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(t.parameters for t in self.tensors())

    def lora_parameters(self, r: int, targets: tuple[str, ...]) -> int:
        """r × (in + out) for each targeted linear layer (Hu et al. 2021, section 4.1)."""
        return sum(r * sum(t.shape) * t.count for t in self.tensors(targets) if t.target)

    def unmatched(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """The target names that no linear layer of this model carries."""
        return tuple(name for name in targets if name not in self.linear_names())

    def linear_names(self) -> tuple[str, ...]:
        """The names of the linear layers that an adapter can sit on."""
        return tuple(t.module for t in self.tensors() if t.kind == "linear")


@lru_cache(maxsize=64)
def _tensors(shape: ModelShape, targets: tuple[str, ...]) -> tuple[Tensor, ...]:
    h, n = shape.hidden_size, shape.layers
    rows = [Tensor("model.embed_tokens.weight", (shape.vocab_size, h), "embedding", 1, False)]
    for block, name, out_size, in_size, bias in _linears(shape):
        prefix = f"model.layers.*.{block}.{name}"
        rows.append(Tensor(f"{prefix}.weight", (out_size, in_size), "linear", n, name in targets))
        if bias:
            rows.append(Tensor(f"{prefix}.bias", (out_size,), "bias", n, False))
    rows += [
        Tensor(f"model.layers.*.{name}.weight", (h,), "norm", n, False)
        for name in _NORMS[shape.norms_per_layer]
    ]
    if shape.qk_norm:
        rows += [
            Tensor(f"model.layers.*.self_attn.{x}_norm.weight", (shape.head_dim,), "norm", n, False)
            for x in "qk"
        ]
    rows.append(Tensor("model.norm.weight", (h,), "norm", 1, False))
    if shape.outputs:
        rows.append(Tensor("score.weight", (shape.outputs, h), "head", 1, False))
    elif not shape.tied:
        rows.append(Tensor("lm_head.weight", (shape.vocab_size, h), "head", 1, False))
    return tuple(rows)


_NORMS = {
    2: ("input_layernorm", "post_attention_layernorm"),
    4: (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
}


def _linears(s: ModelShape) -> list[tuple[str, str, int, int, bool]]:
    h, i, q, kv = s.hidden_size, s.intermediate_size, s.attention_size, s.kv_size
    down = ("mlp", "down_proj", h, i, s.mlp_bias)
    o = ("self_attn", "o_proj", h, q, s.o_bias)
    if s.fused:
        return [
            ("self_attn", "qkv_proj", q + 2 * kv, h, s.qkv_bias),
            o,
            ("mlp", "gate_up_proj", 2 * i, h, s.mlp_bias),
            down,
        ]
    return [
        ("self_attn", "q_proj", q, h, s.qkv_bias),
        ("self_attn", "k_proj", kv, h, s.qkv_bias),
        ("self_attn", "v_proj", kv, h, s.qkv_bias),
        o,
        ("mlp", "gate_proj", i, h, s.mlp_bias),
        ("mlp", "up_proj", i, h, s.mlp_bias),
        down,
    ]


class _Family(Struct, frozen=True, kw_only=True):
    """What the class decides rather than the config; defaults as in transformers 5.23."""

    tied: bool = False
    kv_heads: int | None = None  # where the config is silent; None: as many as heads
    head_dim: int | None = None  # None: hidden_size / heads
    qkv_bias: bool | None = False  # None: config's attention_bias, for q, k, v and o
    mlp_bias: bool = False  # whether config's mlp_bias is read
    qk_norm: bool = False
    norms_per_layer: int = 2
    fused: bool = False


_FAMILIES = {
    "qwen2": _Family(kv_heads=32, qkv_bias=True),
    "qwen3": _Family(kv_heads=32, head_dim=128, qkv_bias=None, qk_norm=True),
    "llama": _Family(qkv_bias=None, mlp_bias=True),
    "mistral": _Family(kv_heads=8),
    "gemma2": _Family(tied=True, kv_heads=4, head_dim=256, qkv_bias=None, norms_per_layer=4),
    "gemma3_text": _Family(
        tied=True, kv_heads=4, head_dim=256, qkv_bias=None, qk_norm=True, norms_per_layer=4
    ),
    "phi3": _Family(fused=True),
    "smollm3": _Family(tied=True, kv_heads=4, qkv_bias=None, mlp_bias=True),
}


def from_config(config: dict[str, Any]) -> ModelShape:
    """Read a transformers config.json.

    Raises `BadInput` naming the architecture when it is none of ours, and naming the field when
    one is missing or makes no model.
    """
    name = config.get("model_type")
    family = _FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        known = ", ".join(_FAMILIES)
        raise BadInput(
            f"model: unknown architecture {name!r} in config.json\n"
            f"its memory would be a guess; known: {known}"
        )
    if "quantization_config" in config:
        raise BadInput(
            "model: config.json has a quantization_config: the weights are quantised already\n"
            "name the model's unquantised form; --strategy qlora quantises it when it loads"
        )
    heads = _count(config, "num_attention_heads")
    hidden = _count(config, "hidden_size")
    biased = bool(config.get("attention_bias", False))
    return ModelShape(
        architecture=str(name),
        vocab_size=_count(config, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_count(config, "intermediate_size"),
        layers=_count(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_kv_heads(config, family, heads),
        head_dim=_head_dim(config, family, hidden, heads),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        qkv_bias=biased if family.qkv_bias is None else family.qkv_bias,
        o_bias=biased and family.qkv_bias is None,
        mlp_bias=family.mlp_bias and bool(config.get("mlp_bias", False)),
        qk_norm=family.qk_norm,
        norms_per_layer=family.norms_per_layer,
        fused=family.fused,
    )


def _count(config: dict[str, Any], field: str) -> int:
    value = config.get(field)
    if type(value) is not int or value < 1:
        raise BadInput(f"model: config.json: {field}: expected a whole number >= 1, got {value!r}")
    return value


def _kv_heads(config: dict[str, Any], family: _Family, heads: int) -> int:
    field = "num_key_value_heads"
    if config.get(field) is not None:
        kv_heads = _count(config, field)
    else:
        kv_heads = heads if family.kv_heads is None or field in config else family.kv_heads
    if heads % kv_heads:
        raise BadInput(
            f"model: config.json: {field}: {heads} attention heads cannot share {kv_heads}"
        )
    return kv_heads


def _head_dim(config: dict[str, Any], family: _Family, hidden: int, heads: int) -> int:
    if config.get("head_dim") is not None:
        return _count(config, "head_dim")
    if family.head_dim is not None:
        return family.head_dim
    if hidden % heads:
        raise BadInput(
            f"model: config.json: hidden_size: {hidden} does not divide by"
            f" num_attention_heads {heads}"
        )
    return hidden // heads
