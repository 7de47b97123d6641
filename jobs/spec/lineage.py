"""What an adapter comes from, as far as a later run must find the same. Written by the job."""

import hashlib
import json
from collections.abc import Mapping

from msgspec import Struct

from jobs.spec.job import Dtype, Lora, Quantization, Task
from jobs.spec.provenance import Provenance

LINEAGE_VERSION = 1


class BaseModel(Struct, frozen=True, kw_only=True):
    """The model under the adapter, and hashes that bind it (see jobs/fingerprint.py).

    `revision` is the commit that a Hub id resolved to, None for a folder. `seed` is the one that a
    random base was drawn from, None for a pretrained one.
    """

    id: str
    revision: str | None = None
    seed: int | None = None
    config_sha256: str
    weights_sha256: str
    tokenizer_sha256: str
    chat_template_sha256: str | None = None  # None: it has none


class Parent(Struct, frozen=True, kw_only=True):
    """The adapter that a continued run began with."""

    source: str  # as the spec's resume_from says it
    adapter_sha256: str  # of its adapter_model.safetensors
    run_id: str | None = None  # None: its folder has no lineage


class Lineage(Struct, frozen=True, kw_only=True):
    """lineage.json: beside the result, and inside the adapter's folder so that it travels.

    What it binds is checked by jobs/spec/bound.py.
    """

    lineage_version: int = LINEAGE_VERSION
    run_id: str
    task: Task
    base: BaseModel
    quantization: Quantization | None
    dtype: Dtype
    lora: Lora | None  # None: every weight was trained
    dimensions: tuple[str, ...] = ()  # of a regression head, in its order
    data_sha256: dict[str, str] = {}  # by set: train, validation, test, replay
    seed: int
    versions: dict[str, str] = {}
    parent: Parent | None = None
    provenance: Provenance | None = None  # None: the job was started by hand
    code_sha256: str = ""  # of the jobs package that ran
    files: dict[str, str] = {}  # SHA-256 of what was saved, by name beside it; {}: nothing yet


def template_sha256(template: str | None) -> str | None:
    """SHA-256 of a chat template's UTF-8 text; None for none."""
    return None if template is None else hashlib.sha256(template.encode()).hexdigest()


# What libraries note in a config about themselves, and the type the weights were last held in.
_PASSING = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures")


def config_sha256(config: bytes) -> str:
    """SHA-256 of a config.json with its keys in order, without what libraries note there.

    Raises ValueError for what is no JSON object.
    """
    content = json.loads(config)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    kept = {key: value for key, value in content.items() if key not in _PASSING}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def adapter_shape(lora: Lora | None) -> Mapping[str, object]:
    """What two adapters must have alike for one to go on from the other, by the recipe's key.

    Dropout is no part of it: it changes how one trains, not what the weights mean.
    """
    if lora is None:
        return {"lora.r": None, "lora.alpha": None, "lora.targets": None}
    return {
        "lora.r": lora.r,
        "lora.alpha": lora.alpha,
        "lora.targets": ", ".join(sorted(lora.targets)),
    }


def kind_of(quantization: Quantization | None) -> str:
    """How a base is stored, in a word."""
    if quantization is None:
        return "not quantised"
    return f"{quantization.kind}, {'double' if quantization.double else 'single'} quantisation"


def differences(parent: Lineage, own: Lineage) -> list[str]:
    """What keeps a run from going on with the parent's adapter: one line each, both values named.

    A hash stands for its first twelve digits. Dtype, data, seed and versions may differ.
    """
    pairs: dict[str, tuple[object, object]] = {
        "task": (parent.task, own.task),
        "base config": (parent.base.config_sha256[:12], own.base.config_sha256[:12]),
        "base weights": (parent.base.weights_sha256[:12], own.base.weights_sha256[:12]),
        "tokenizer": (parent.base.tokenizer_sha256[:12], own.base.tokenizer_sha256[:12]),
        "chat template": (
            (parent.base.chat_template_sha256 or "none")[:12],
            (own.base.chat_template_sha256 or "none")[:12],
        ),
        "quantisation": (kind_of(parent.quantization), kind_of(own.quantization)),
        "regression.dimensions": (", ".join(parent.dimensions), ", ".join(own.dimensions)),
    }
    theirs, ours = adapter_shape(parent.lora), adapter_shape(own.lora)
    pairs |= {key: (theirs[key], ours[key]) for key in theirs}
    return [
        f"{key}: the parent has {then}, this run {now}"
        for key, (then, now) in pairs.items()
        if then != now
    ]
