"""What each family of models decides: its layers' tensors, biases, defaults and names. Data alone.

The layouts follow transformers 5.23 `models/<family>/modeling_<family>.py`; a test in
`tests/integration/test_shapes_meta.py` holds them against the real classes on the meta device, what
is quantised against models loaded in 4 bits, and the adapters against PEFT's.
"""

from typing import Any

from msgspec import Struct

from launcher.estimate.tensors import Attention, Kind


class Row(Struct, frozen=True):
    """A tensor of every layer."""

    name: str  # within the layer, without `.weight`
    shape: tuple[str, ...]  # by the names of `configs._sizes`
    kind: Kind = "linear"
    bias: str = ""  # which of the family's biases it has
    answers_to: tuple[str, ...] = ()  # in lora.targets; a linear layer also to its own name


def norm(name: str, size: str = "hidden", bias: str = "") -> Row:
    return Row(name, (size,), "norm", bias)


_ATTENTION = (
    Row("self_attn.q_proj", ("q", "hidden"), bias="qkv"),
    Row("self_attn.k_proj", ("kv", "hidden"), bias="qkv"),
    Row("self_attn.v_proj", ("kv", "hidden"), bias="qkv"),
    Row("self_attn.o_proj", ("hidden", "q"), bias="o"),
)
_MLP = (
    Row("mlp.gate_proj", ("intermediate", "hidden"), bias="mlp"),
    Row("mlp.up_proj", ("intermediate", "hidden"), bias="mlp"),
    Row("mlp.down_proj", ("hidden", "intermediate"), bias="mlp"),
)
_FUSED = (  # Phi-3
    Row("self_attn.qkv_proj", ("qkv", "hidden")),
    Row("self_attn.o_proj", ("hidden", "q")),
    Row("mlp.gate_up_proj", ("two intermediate", "hidden")),
    Row("mlp.down_proj", ("hidden", "intermediate")),
)
_TWO_NORMS = (norm("input_layernorm"), norm("post_attention_layernorm"))
_FOUR_NORMS = (
    *_TWO_NORMS,
    norm("pre_feedforward_layernorm"),
    norm("post_feedforward_layernorm"),
)
QK_NORMS = (norm("self_attn.q_norm", "head_dim"), norm("self_attn.k_norm", "head_dim"))


def _experts(gate: str, up: str, down: str) -> tuple[Row, ...]:
    """The router and the stacked experts, and what PEFT knows the experts' matrices by.

    They are parameters, not modules; PEFT 0.21 turns their names of transformers 4 into
    target_parameters (utils/transformers_weight_conversion.py _MOE_TARGET_MODULE_MAPPING). Their
    present names, gate_up_proj among them, match nothing.
    """
    up_shape, down_shape = ("two intermediate", "hidden"), ("hidden", "intermediate")
    return (
        Row("mlp.gate", ("experts", "hidden"), "router", answers_to=("gate",)),
        Row("mlp.experts.gate_up_proj", ("experts", *up_shape), "experts", answers_to=(gate, up)),
        Row("mlp.experts.down_proj", ("experts", *down_shape), "experts", answers_to=(down,)),
    )


_NEOX = (
    Row("attention.query_key_value", ("qkv", "hidden"), bias="qkv"),
    Row("attention.dense", ("hidden", "hidden"), bias="o"),
    Row("mlp.dense_h_to_4h", ("intermediate", "hidden"), bias="mlp"),
    Row("mlp.dense_4h_to_h", ("hidden", "intermediate"), bias="mlp"),
    norm("input_layernorm", bias="norm"),
    norm("post_attention_layernorm", bias="norm"),
)
_FALCON = (
    Row("self_attention.query_key_value", ("qkv", "hidden"), bias="qkv"),
    Row("self_attention.dense", ("hidden", "hidden"), bias="o"),
    Row("mlp.dense_h_to_4h", ("intermediate", "hidden"), bias="mlp"),
    Row("mlp.dense_4h_to_h", ("hidden", "intermediate"), bias="mlp"),
)


class Names(Struct, frozen=True):
    """What a class calls the parts that are not in a layer."""

    embedding: str = "model.embed_tokens"
    layers: str = "model.layers"
    norm: str = "model.norm"


class Family(Struct, frozen=True, kw_only=True):
    """What the class decides rather than the config."""

    rows: tuple[Row, ...]
    biases: dict[str, str] = {}  # from a row's bias to the config's flag for it, or to "always"
    # The class's values for fields that a config may leave out. Without one, a silent
    # num_key_value_heads means as many as heads, a silent head_dim hidden_size / heads.
    defaults: dict[str, Any] = {}
    # Llama's name of a field → this family's, the published one first; none where it has no such
    fields: dict[str, tuple[str, ...]] = {}
    names: Names = Names()
    attention: Attention = "fused"
    gated: bool = True
    fused: bool = False
    four_bit: bool = True  # transformers replaces its linear layers by bitsandbytes'


_ATTENTION_BIAS = {"qkv": "attention_bias", "o": "attention_bias"}
_TIED = {"tie_word_embeddings": True}
_GEMMA = {**_TIED, "head_dim": 256, "num_key_value_heads": 4}

FAMILIES = {
    "qwen2": Family(
        rows=(*_ATTENTION, *_MLP, *_TWO_NORMS),
        biases={"qkv": "always"},
        defaults={"num_key_value_heads": 32},
    ),
    "qwen3": Family(
        rows=(*_ATTENTION, *_MLP, *_TWO_NORMS, *QK_NORMS),
        biases=_ATTENTION_BIAS,
        defaults={"num_key_value_heads": 32, "head_dim": 128},
    ),
    "qwen3_moe": Family(
        rows=(
            *_ATTENTION,
            *_experts("gate_proj", "up_proj", "down_proj"),
            *_TWO_NORMS,
            *QK_NORMS,
        ),
        biases=_ATTENTION_BIAS,
        defaults={"num_key_value_heads": 4},
        fields={
            "experts": ("num_experts", "num_local_experts"),
            "intermediate_size": ("moe_intermediate_size",),
        },
    ),
    "llama": Family(
        rows=(*_ATTENTION, *_MLP, *_TWO_NORMS), biases={**_ATTENTION_BIAS, "mlp": "mlp_bias"}
    ),
    "mistral": Family(rows=(*_ATTENTION, *_MLP, *_TWO_NORMS), defaults={"num_key_value_heads": 8}),
    "mixtral": Family(
        rows=(*_ATTENTION, *_experts("w1", "w3", "w2"), *_TWO_NORMS),
        defaults={"num_key_value_heads": 8},
        fields={"experts": ("num_local_experts", "num_experts")},
    ),
    "gemma": Family(
        rows=(*_ATTENTION, *_MLP, *_TWO_NORMS),
        biases=_ATTENTION_BIAS,
        defaults={**_GEMMA, "num_key_value_heads": 16},
    ),
    "gemma2": Family(
        rows=(*_ATTENTION, *_MLP, *_FOUR_NORMS),
        biases=_ATTENTION_BIAS,
        defaults=_GEMMA,
        attention="softcapped",
    ),
    "gemma3_text": Family(
        rows=(*_ATTENTION, *_MLP, *_FOUR_NORMS, *QK_NORMS),
        biases=_ATTENTION_BIAS,
        defaults={**_GEMMA, "num_attention_heads": 8, "vocab_size": 262_208},
    ),
    "phi3": Family(rows=(*_FUSED, *_TWO_NORMS), fused=True),
    "smollm3": Family(
        rows=(*_ATTENTION, *_MLP, *_TWO_NORMS),
        biases={**_ATTENTION_BIAS, "mlp": "mlp_bias"},
        defaults={**_TIED, "num_key_value_heads": 4},
    ),
    "gpt_neox": Family(
        rows=_NEOX,
        biases={**_ATTENTION_BIAS, "mlp": "always", "norm": "always"},
        defaults={"attention_bias": True},
        fields={"num_key_value_heads": (), "head_dim": ()},
        names=Names("gpt_neox.embed_in", "gpt_neox.layers", "gpt_neox.final_layer_norm"),
        gated=False,
    ),
    "falcon": Family(
        rows=_FALCON,
        biases={"qkv": "bias", "o": "bias", "mlp": "bias", "norm": "always"},
        defaults=_TIED,
        fields={
            "num_key_value_heads": ("num_kv_heads",),
            "head_dim": (),
            "intermediate_size": ("ffn_hidden_size",),
        },
        names=Names("transformer.word_embeddings", "transformer.h", "transformer.ln_f"),
        gated=False,
        # Its layers are a class of their own, and integrations/bitsandbytes.py
        # replace_with_bnb_linear takes torch's Linear alone.
        four_bit=False,
    ),
}
