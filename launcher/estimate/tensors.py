"""A model's tensors, one row per kind with how often it occurs: counting costs microseconds.

Which tensors a model has is read from its config.json by `families.py`.
"""

from functools import cached_property
from math import prod
from typing import Literal

import msgspec
from msgspec import Struct

from jobs.spec import SEVEN_PROJECTIONS

# linear: a layer's matrix that every token passes. experts: matrices of which a token passes some,
# stacked into one tensor. router: what chooses among them. vision: encodes images, which our jobs
# never do.
Kind = Literal["embedding", "linear", "experts", "router", "norm", "bias", "head", "vision"]

# fused: torch's kernels keep no scores. softcapped: Gemma 2, in plain operations. broadcast:
# Falcon's one key head, which no fused kernel takes. masked: fused, with a mask of its own always.
# alibi: masked, with a bias for each head.
Attention = Literal["fused", "softcapped", "broadcast", "masked", "alibi"]


class Tensor(Struct, frozen=True):
    """One tensor of the model, occurring `count` times (once per layer, or once)."""

    name: str  # as in the state dict, with * for the layer's number
    shape: tuple[int, ...]  # (out, in) of a matrix, (experts, out, in) of stacked ones
    kind: Kind
    count: int
    target: bool = False  # a LoRA adapter sits on it
    answers_to: tuple[str, ...] = ()  # the names in lora.targets that put one there, all of them
    four_bit: bool = False  # bitsandbytes quantises it

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

    def adapter(self, r: int) -> tuple[int, int]:
        """Elements of LoRA's A and B on one occurrence.

        Each expert has its own, and a stack that fuses two matrices has both matrices' ranks (peft
        0.21 utils/transformers_weight_conversion.py _convert_peft_config_moe, tuners/lora/layer.py
        ParamWrapper.update_layer).
        """
        rank = r * len(self.answers_to)
        if self.kind == "experts":
            rank *= self.shape[0]
        return rank * self.shape[-1], rank * self.shape[-2]


class Window(Struct, frozen=True, kw_only=True):
    """Layers that look back over so many tokens at most, themselves among them."""

    tokens: int
    layers: int  # how many of the model's do


class ModelShape(Struct, frozen=True, kw_only=True, dict=True):
    """The dimensions of a decoder-only language model.

    Sums over its tensors are kept (`dict=True`): a plan asks for them hundreds of times.
    """

    architecture: str  # transformers' model_type
    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of the MLP, or of one expert
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool  # the head shares the embedding's tensor
    body: tuple[Tensor, ...]  # all but the head
    norms_per_layer: int  # over the hidden stream
    qk_norm: bool
    gated: bool = True  # the MLP multiplies two projections; else one and an activation
    fused: bool = False  # one qkv_proj and one gate_up_proj (Phi-3)
    experts: int = 0  # of one layer; 0: none
    experts_per_token: int = 0
    attention: Attention = "fused"
    cached_kv_heads: int | None = None  # where the cache holds more than the weights have
    window: Window | None = None  # None: every layer sees all
    positions: int | None = None  # the longest row it was made for; None: not known
    # Of a parameter in the published files, bytes; None: config.json does not say.
    file_width: Literal[2, 4] | None = None
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
        if targets not in self._by_targets:
            self._by_targets[targets] = _tensors(self, targets)
        return self._by_targets[targets]

    @cached_property
    def _by_targets(self) -> dict[tuple[str, ...], tuple[Tensor, ...]]:
        return {}

    @cached_property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(t.parameters for t in self.tensors())

    def parameters_of(self, *kinds: Kind) -> int:
        """All parameters of these kinds."""
        return sum(t.parameters for t in self.tensors() if t.kind in kinds)

    @cached_property
    def active_parameters(self) -> float:
        """Of the layers' matrices, those that one token passes."""
        stacked = self.parameters_of("experts")
        passed = stacked * self.experts_per_token / self.experts if stacked else 0.0
        return self.parameters_of("linear", "router") + passed

    @cached_property
    def four_bit_parameters(self) -> int:
        """Of the language model's parameters, those that bitsandbytes quantises."""
        return sum(t.parameters for t in self.tensors() if t.four_bit and t.kind != "vision")

    def lora_parameters(self, r: int, targets: tuple[str, ...]) -> int:
        """r × (in + out) for each targeted matrix (Hu et al. 2021, section 4.1)."""
        return sum(sum(t.adapter(r)) * t.count for t in self.tensors(targets) if t.target)

    def unmatched(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """The target names that no layer of this model answers to."""
        return tuple(name for name in targets if name not in self.target_names)

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        """What lora.targets can name in this model."""
        return tuple(name for t in self.tensors() for name in t.answers_to)


def _tensors(shape: ModelShape, targets: tuple[str, ...]) -> tuple[Tensor, ...]:
    rows = [_with_target(t, targets) for t in shape.body]
    if shape.outputs:
        rows.append(Tensor("score.weight", (shape.outputs, shape.hidden_size), "head", 1))
    elif not shape.tied:
        rows.append(Tensor("lm_head.weight", (shape.vocab_size, shape.hidden_size), "head", 1))
    return tuple(rows)


def _with_target(tensor: Tensor, targets: tuple[str, ...]) -> Tensor:
    named = bool(tensor.answers_to) and all(name in targets for name in tensor.answers_to)
    return msgspec.structs.replace(tensor, target=True) if named else tensor
