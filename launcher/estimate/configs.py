"""From a transformers config.json to a model's shape; what its family decides is in families.py."""

from typing import Any

import msgspec

from launcher.errors import BadInput
from launcher.estimate.families import FAMILIES, QK_NORMS, Family, Names, Row, norm
from launcher.estimate.tensors import Attention, Kind, ModelShape, Tensor
from launcher.estimate.vision import siglip
from launcher.estimate.windows import window_of


def from_config(config: dict[str, Any]) -> ModelShape:
    """Read a transformers config.json.

    Raises `BadInput` naming the architecture when it is none of ours, and naming the field when
    one is missing or makes no model.
    """
    name = config.get("model_type")
    if "quantization_config" in config:
        raise BadInput(
            "model: config.json has a quantization_config: the weights are quantised already\n"
            "name the model's unquantised form; --strategy qlora quantises it when it loads"
        )
    if name == "gemma3":
        return _gemma3(config)
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        known = ", ".join((*FAMILIES, "gemma3"))
        raise BadInput(
            f"model: unknown architecture {name!r} in config.json\n"
            f"its memory would be a guess; known: {known}"
        )
    return _falcon(config, family) if name == "falcon" else _read(config, family)


def _read(config: dict[str, Any], family: Family) -> ModelShape:
    """The shape of a config of this family. Raises `BadInput`."""
    config = {**family.defaults, **config}
    heads = _count(config, family, "num_attention_heads")
    kv_heads = heads
    if _given(config, family, "num_key_value_heads"):
        kv_heads = _count(config, family, "num_key_value_heads")
    if heads % kv_heads:
        field = _field(config, family, "num_key_value_heads")
        raise BadInput(
            f"model: config.json: {field}: {heads} attention heads cannot share {kv_heads}"
        )
    hidden = _count(config, family, "hidden_size")
    experts, per_token = _expert_counts(config, family)
    shape = ModelShape(
        architecture=config["model_type"],
        vocab_size=_count(config, family, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_count(config, family, "intermediate_size"),
        layers=_count(config, family, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(config, family, hidden, heads),
        tied=bool(config.get("tie_word_embeddings", False)),
        body=(),
        norms_per_layer=sum(r.kind == "norm" and r.shape == ("hidden",) for r in family.rows),
        qk_norm=QK_NORMS[0] in family.rows,
        gated=family.gated,
        fused=family.fused,
        experts=experts,
        experts_per_token=per_token,
        attention=family.attention,
        window=window_of(config, _count(config, family, "num_hidden_layers")),
    )
    return msgspec.structs.replace(shape, body=_body(shape, config, family))


def _body(shape: ModelShape, config: dict[str, Any], family: Family) -> tuple[Tensor, ...]:
    sizes, names = _sizes(shape), family.names
    biased = {
        bias: flag == "always" or bool(config.get(flag)) for bias, flag in family.biases.items()
    }
    embedding = (shape.vocab_size, shape.hidden_size)
    found = [Tensor(f"{names.embedding}.weight", embedding, "embedding", 1)]
    for row in family.rows:
        found.append(_tensor(row, family, sizes, shape.layers))
        if biased.get(row.bias):
            kind: Kind = "norm" if row.kind == "norm" else "bias"
            name = f"{names.layers}.*.{row.name}.bias"
            found.append(Tensor(name, found[-1].shape[:1], kind, shape.layers))
    found.append(Tensor(f"{names.norm}.weight", (shape.hidden_size,), "norm", 1))
    if biased.get("norm"):
        found.append(Tensor(f"{names.norm}.bias", (shape.hidden_size,), "norm", 1))
    return tuple(found)


def _tensor(row: Row, family: Family, sizes: dict[str, int], layers: int) -> Tensor:
    name = f"{family.names.layers}.*.{row.name}"
    linear = row.kind == "linear"
    return Tensor(
        name if row.kind == "experts" else f"{name}.weight",
        tuple(sizes[size] for size in row.shape),
        row.kind,
        layers,
        answers_to=(row.name.rsplit(".", 1)[-1],) if linear else row.answers_to,
        four_bit=linear and family.four_bit,
    )


def _sizes(shape: ModelShape) -> dict[str, int]:
    return {
        "hidden": shape.hidden_size,
        "head_dim": shape.head_dim,
        "q": shape.attention_size,
        "kv": shape.kv_size,
        "qkv": shape.attention_size + 2 * shape.kv_size,
        "intermediate": shape.intermediate_size,
        "two intermediate": 2 * shape.intermediate_size,
        "experts": shape.experts,
    }


# --- the fields of a config -----------------------------------------------------------------


def _field(config: dict[str, Any], family: Family, field: str) -> str:
    """What this config calls one of Llama's fields; "" where the family has no such field."""
    names = family.fields.get(field, (field,))
    return next((name for name in names if name in config), (*names, "")[0])


def _given(config: dict[str, Any], family: Family, field: str) -> bool:
    return config.get(_field(config, family, field)) is not None


def _count(config: dict[str, Any], family: Family, field: str) -> int:
    field = _field(config, family, field)
    value = config.get(field)
    if type(value) is not int or value < 1:
        raise BadInput(f"model: config.json: {field}: expected a whole number >= 1, got {value!r}")
    return value


def _head_dim(config: dict[str, Any], family: Family, hidden: int, heads: int) -> int:
    if _given(config, family, "head_dim"):
        return _count(config, family, "head_dim")
    if hidden % heads:
        raise BadInput(
            f"model: config.json: hidden_size: {hidden} does not divide by"
            f" num_attention_heads {heads}"
        )
    return hidden // heads


def _expert_counts(config: dict[str, Any], family: Family) -> tuple[int, int]:
    """Experts of a layer, and those that one token passes."""
    if "experts" not in family.fields:
        return 0, 0
    experts = _count(config, family, "experts")
    per_token = _count(config, family, "num_experts_per_tok")
    if per_token > experts:
        raise BadInput(
            f"model: config.json: num_experts_per_tok: {per_token}, but there are {experts} experts"
        )
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        field = "mlp_only_layers" if config.get("mlp_only_layers") else "decoder_sparse_step"
        raise BadInput(
            f"model: config.json: {field}: {config[field]!r}: some layers have experts and some"
            " not, which this version does not estimate"
        )
    return experts, per_token


# --- families that need more than data ------------------------------------------------------


def _falcon(config: dict[str, Any], family: Family) -> ModelShape:
    """Falcon's flags choose norms, key heads and attention (modeling_falcon.py)."""
    new = bool(config.get("new_decoder_architecture", False))
    parallel = bool(config.get("parallel_attn", True))
    alibi = bool(config.get("alibi", False))
    two = (config.get("num_ln_in_parallel_attn") or (2 if new else 1)) == 2
    norms = [norm("input_layernorm", bias="norm")]
    if not parallel:
        norms.append(norm("post_attention_layernorm", bias="norm"))
    elif two:
        norms = [norm("ln_attn", bias="norm"), norm("ln_mlp", bias="norm")]
    one_key_head = not new and bool(config.get("multi_query", True))
    config = dict(config)
    if one_key_head:
        config["num_kv_heads"] = 1
    elif not new:
        config.pop("num_kv_heads", None)
    if config.get("ffn_hidden_size") is None:
        config["ffn_hidden_size"] = 4 * _count(config, family, "hidden_size")
    attention: Attention = "alibi" if alibi else "broadcast" if one_key_head else "masked"
    rows = (*family.rows, *norms)
    shape = _read(config, msgspec.structs.replace(family, rows=rows, attention=attention))
    # FalconAttention.forward repeats the keys for all heads before it caches them.
    return msgspec.structs.replace(shape, cached_kv_heads=shape.heads) if new else shape


def _gemma3(config: dict[str, Any]) -> ModelShape:
    """Gemma 3 from 4 B on: the text model of `text_config` beside a vision tower."""
    text, tower = (_part(config, name) for name in ("text_config", "vision_config"))
    if tower.get("vision_use_head", True):
        raise BadInput("model: config.json: vision_config.vision_use_head: expected false")
    names = Names(*(f"model.language_model.{part}" for part in ("embed_tokens", "layers", "norm")))
    family = msgspec.structs.replace(FAMILIES["gemma3_text"], names=names)
    shape = _read({**text, "model_type": "gemma3"}, family)
    vision = siglip(lambda field: _count(tower, family, field), shape.hidden_size)
    return msgspec.structs.replace(shape, body=(*shape.body, *vision))


def _part(config: dict[str, Any], field: str) -> dict[str, Any]:
    part = config.get(field)
    if not isinstance(part, dict):
        raise BadInput(f"model: config.json: {field}: expected a model's fields, got {part!r}")
    return part
