"""From a transformers config.json to a model's shape; what its family decides is in families.py."""

from typing import Any, Literal

import msgspec

from launcher.errors import BadInput
from launcher.estimate.families import FAMILIES, QK_NORMS, Family, Names, Row, norm
from launcher.estimate.fields import MOST_PARAMETERS, Fields
from launcher.estimate.tensors import Attention, Kind, ModelShape, Tensor
from launcher.estimate.vision import siglip
from launcher.estimate.windows import window_of


def from_config(config: dict[str, Any]) -> ModelShape:
    """Read a transformers config.json.

    Raises `BadInput` naming the architecture when it is none of ours, and naming the field when
    one is missing or makes no model.
    """
    if config.get("quantization_config") is not None:
        raise BadInput(
            "model: config.json has a quantization_config: the weights are quantised already\n"
            "name the model's unquantised form; --strategy qlora quantises it when it loads"
        )
    fields = Fields(config)
    name = config.get("model_type")
    if name == "gemma3":
        return _gemma3(fields)
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        known = ", ".join((*FAMILIES, "gemma3"))
        unknown = f"unknown architecture {name!r} in config.json"
        if name is None:
            unknown = "config.json: model_type: expected an architecture's name, but it is missing"
        raise BadInput(f"model: {unknown}\nits memory would be a guess; known: {known}")
    return _falcon(fields, family) if name == "falcon" else _read(fields, family)


def _read(config: Fields, family: Family) -> ModelShape:
    """The shape of a config of this family. Raises `BadInput`."""
    config = config.over(family.defaults)
    heads = _count(config, family, "num_attention_heads")
    kv_heads = heads
    if _given(config, family, "num_key_value_heads"):
        kv_heads = _count(config, family, "num_key_value_heads")
    if heads % kv_heads:
        field = _field(config, family, "num_key_value_heads")
        raise config.refused(field, f"{heads} attention heads cannot share {kv_heads}")
    hidden = _count(config, family, "hidden_size")
    experts, per_token = _expert_counts(config, family)
    shape = ModelShape(
        architecture=config.get("model_type"),
        vocab_size=_count(config, family, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_count(config, family, "intermediate_size"),
        layers=_count(config, family, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(config, family, hidden, heads),
        tied=config.flag("tie_word_embeddings"),
        body=(),
        norms_per_layer=sum(r.kind == "norm" and r.shape == ("hidden",) for r in family.rows),
        qk_norm=QK_NORMS[0] in family.rows,
        gated=family.gated,
        fused=family.fused,
        experts=experts,
        experts_per_token=per_token,
        attention=family.attention,
        positions=_positions(config),
        file_width=_file_width(config),
        window=window_of(config, _count(config, family, "num_hidden_layers")),
    )
    shape = msgspec.structs.replace(shape, body=_body(shape, config, family))
    if shape.parameters > MOST_PARAMETERS:
        raise BadInput(
            f"model: config.json: its counts make {shape.parameters:.1e} parameters, and no model"
            f" has more than {MOST_PARAMETERS:.1e}\n"
            "check vocab_size, hidden_size, intermediate_size and num_hidden_layers"
        )
    return shape


def _body(shape: ModelShape, config: Fields, family: Family) -> tuple[Tensor, ...]:
    sizes, names = _sizes(shape), family.names
    biased = {bias: flag == "always" or config.flag(flag) for bias, flag in family.biases.items()}
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


def _field(config: Fields, family: Family, field: str) -> str:
    """What this config calls one of Llama's fields; "" where the family has no such field."""
    names = family.fields.get(field, (field,))
    return next((name for name in names if name in config.values), (*names, "")[0])


def _given(config: Fields, family: Family, field: str) -> bool:
    return config.get(_field(config, family, field)) is not None


def _count(config: Fields, family: Family, field: str) -> int:
    return config.count(_field(config, family, field))


def _head_dim(config: Fields, family: Family, hidden: int, heads: int) -> int:
    if _given(config, family, "head_dim"):
        return _count(config, family, "head_dim")
    if hidden % heads:
        heads_field = config.name_in_file("num_attention_heads")
        raise config.refused("hidden_size", f"{hidden} does not divide by {heads_field} {heads}")
    return hidden // heads


def _expert_counts(config: Fields, family: Family) -> tuple[int, int]:
    """Experts of a layer, and those that one token passes."""
    if "experts" not in family.fields:
        return 0, 0
    experts = _count(config, family, "experts")
    per_token = _count(config, family, "num_experts_per_tok")
    if per_token > experts:
        raise config.refused("num_experts_per_tok", f"{per_token}, but there are {experts} experts")
    sparse = config.over({"decoder_sparse_step": 1}).get("decoder_sparse_step")
    if config.get("mlp_only_layers") or sparse != 1:
        field = "mlp_only_layers" if config.get("mlp_only_layers") else "decoder_sparse_step"
        raise config.refused(
            field,
            f"{config.get(field)!r}: some layers have experts and some not, which this version"
            " does not estimate",
        )
    return experts, per_token


_WIDTHS: dict[str, Literal[2, 4]] = {"bfloat16": 2, "float16": 2, "float32": 4}


def _file_width(config: Fields) -> Literal[2, 4] | None:
    """By `dtype`, which transformers wrote as `torch_dtype` until version 5."""
    field = next((name for name in ("dtype", "torch_dtype") if config.get(name) is not None), None)
    if field is None:
        return None
    value = config.get(field)
    width = _WIDTHS.get(value) if isinstance(value, str) else None
    if width is None:
        raise config.refused(field, f"expected one of {', '.join(_WIDTHS)}, got {value!r}")
    return width


def _positions(config: Fields) -> int | None:
    """None where no count bounds a row: ALiBi, and RoPE that is scaled to reach further.

    By how much a scaled one does depends on its kind, and on who wrote the config: some publish
    max_position_embeddings with the factor in it, some without.
    """
    most = config.count_or_none("max_position_embeddings")
    scaled = _is_scaled(config.get("rope_parameters")) or _is_scaled(config.get("rope_scaling"))
    return None if scaled or config.get("alibi") else most


def _is_scaled(rope: Any) -> bool:
    """Of rope_parameters, or of one kind of layer's in it."""
    if not isinstance(rope, dict):
        return False
    kind = rope.get("rope_type", rope.get("type", "default"))
    return kind != "default" or any(map(_is_scaled, rope.values()))


# --- families that need more than data ------------------------------------------------------


_FALCON_FLAGS = ("new_decoder_architecture", "parallel_attn", "alibi", "multi_query", "bias")


def _falcon(config: Fields, family: Family) -> ModelShape:
    """Falcon's flags choose norms, key heads and attention (modeling_falcon.py).

    Its config class lets them be null, which the model's code takes for false.
    """
    config = config.having(**{f: False for f in _FALCON_FLAGS if config.values.get(f, 0) is None})
    new = config.flag("new_decoder_architecture")
    parallel = config.flag("parallel_attn", True)
    alibi = config.flag("alibi")
    two = (config.count_or_none("num_ln_in_parallel_attn") or (2 if new else 1)) == 2
    norms = [norm("input_layernorm", bias="norm")]
    if not parallel:
        norms.append(norm("post_attention_layernorm", bias="norm"))
    elif two:
        norms = [norm("ln_attn", bias="norm"), norm("ln_mlp", bias="norm")]
    one_key_head = not new and config.flag("multi_query", True)
    if one_key_head:
        config = config.having(num_kv_heads=1)
    elif not new:
        config = config.having(num_kv_heads=None)
    if config.get("ffn_hidden_size") is None:
        config = config.having(ffn_hidden_size=4 * _count(config, family, "hidden_size"))
    attention: Attention = "alibi" if alibi else "broadcast" if one_key_head else "masked"
    rows = (*family.rows, *norms)
    shape = _read(config, msgspec.structs.replace(family, rows=rows, attention=attention))
    # FalconAttention.forward repeats the keys for all heads before it caches them.
    return msgspec.structs.replace(shape, cached_kv_heads=shape.heads) if new else shape


def _gemma3(config: Fields) -> ModelShape:
    """Gemma 3 from 4 B on: the text model of `text_config` beside a vision tower."""
    text, tower = config.part("text_config"), config.part("vision_config")
    if tower.flag("vision_use_head", True):
        raise tower.refused("vision_use_head", "expected false")
    names = Names(*(f"model.language_model.{part}" for part in ("embed_tokens", "layers", "norm")))
    family = msgspec.structs.replace(FAMILIES["gemma3_text"], names=names)
    shape = _read(text.having(model_type="gemma3"), family)
    vision = siglip(tower.count, shape.hidden_size)
    width = _file_width(config) or shape.file_width
    return msgspec.structs.replace(shape, body=(*shape.body, *vision), file_width=width)
