"""The one place where a LoRA adapter is put onto a model, with proof that all of it arrived.

PEFT loads what it recognises and leaves the rest as it was drawn: an adapter whose keys do not
match trains or answers as if it were new, and nothing says so. Here every tensor of the file must
be found again in a parameter, and every adapter parameter must have come from the file.

Two forms of keys are read: with and without PEFT's `base_model.model.` before them, and with and
without the adapter's name (`lora_A.weight`, `lora_A.default.weight`).
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import layout
from jobs.outcome import BadInput

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
PREFIX = "base_model.model."

CONVERT = (
    'python -c "import torch, safetensors.torch as s; '
    "t = torch.load('{0}', weights_only=True, map_location='cpu'); "
    "s.save_file({{k: v.contiguous().clone() for k, v in t.items()}}, '{1}')\""
)

# A parameter of an adapter: `...lora_A.default.weight`, `...lora_embedding_A.default`, or of a
# module trained whole: `...modules_to_save.default.weight`. `default` may be any name or none.
_LORA = re.compile(
    r"(?P<stem>.+?)\.(?P<part>lora_[A-Za-z_]+)(\.(?P<name>[^.]+?))??(?P<end>\.weight|\.bias)?"
)
_WHOLE = re.compile(r"(?P<stem>.+)\.modules_to_save\.[^.]+\.(?P<end>.+)")


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, looked into: its settings as this PEFT knows them, and its tensors."""

    folder: Path
    config: Any  # peft.LoraConfig
    ignored: dict[str, Any]  # settings that this PEFT does not know
    base: str | None  # what it was trained on: an id or a folder
    tensors: Mapping[str, Any]  # by the file's own keys, on the CPU


@dataclass(frozen=True)
class Check:
    """One thing that must hold of a loaded adapter."""

    name: str
    ok: bool
    said: str


def adapter_folder(value: str | Path, beside: Path | None = None) -> Path:
    """The absolute folder that holds the adapter: itself, or its `adapter/` where it is a run's.

    A relative path is looked for from `beside` (default: the working folder) and never taken for a
    Hub id. Raises `BadInput` for what is not there, and for weights that must be unpickled.
    """
    folder = ((beside or Path.cwd()) / Path(value).expanduser()).resolve()
    if not folder.is_dir():
        raise BadInput(f"{value}: no folder {folder}; give an adapter's folder, or a run's")
    if not (folder / CONFIG).is_file() and (folder / layout.ADAPTER / CONFIG).is_file():
        folder = folder / layout.ADAPTER
    if not (folder / CONFIG).is_file():
        raise BadInput(f"{folder} is no adapter: it has no {CONFIG}")
    if not (folder / WEIGHTS).is_file():
        if (folder / PICKLED).is_file():
            how = CONVERT.format(folder / PICKLED, folder / WEIGHTS)
            raise BadInput(f"{folder} has only {PICKLED}, a pickle, which may run code; {how}")
        raise BadInput(f"{folder} has no {WEIGHTS}")
    return folder


def open_adapter(folder: Path) -> Adapter:
    """Read settings and tensors of the folder that `adapter_folder` gave.

    Settings of another PEFT version are dropped (`ignored` names them), missing ones get this
    version's defaults. Raises `BadInput` for what is no LoRA adapter or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        written = json.loads((folder / CONFIG).read_bytes())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"{folder}: the adapter cannot be read: {error}") from None
    if not tensors:
        raise BadInput(f"{folder}: {WEIGHTS} holds no tensor")
    config, ignored = _settings(folder, written)
    return Adapter(folder, config, ignored, written.get("base_model_name_or_path"), tensors)


def _settings(folder: Path, written: Any) -> tuple[Any, dict[str, Any]]:
    from peft import LoraConfig

    if not isinstance(written, dict) or written.get("peft_type") != "LORA":
        kind = written.get("peft_type") if isinstance(written, dict) else type(written).__name__
        raise BadInput(f"{folder}: {CONFIG}: peft_type {kind}; only LORA is loaded here")
    fields = {field.name for field in dataclasses.fields(LoraConfig) if field.init}
    known = {key: value for key, value in written.items() if key in fields}
    try:
        config = LoraConfig(**known)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{folder}: {CONFIG}: {error}") from None
    return config, {key: value for key, value in written.items() if key not in fields}


def ignored_warning(adapter: Adapter) -> str | None:
    """A warning that names the settings which were dropped."""
    if not adapter.ignored:
        return None
    names = ", ".join(f"{key}: {json.dumps(value)}" for key, value in adapter.ignored.items())
    return f"{adapter.folder}: this PEFT does not know, and drops: {names}"


# --- names ----------------------------------------------------------------------------------


def canonical(key: str) -> str:
    """One name for a tensor, whichever form its key has.

    >>> canonical("base_model.model.layers.0.q_proj.lora_A.default.weight")
    'layers.0.q_proj.lora_A.weight'
    """
    key = key.removeprefix(PREFIX)
    whole = _WHOLE.fullmatch(key)
    if whole is not None:
        return f"{whole['stem']}.{whole['end']}"
    lora = _LORA.fullmatch(key)
    if lora is not None:
        return f"{lora['stem']}.{lora['part']}{lora['end'] or '.weight'}"
    return key


def as_saved(key: str) -> str:
    """The key as this PEFT saves it: what its own loader takes."""
    bare = key.removeprefix(PREFIX)
    whole = _WHOLE.fullmatch(bare)
    if whole is not None:
        return f"{PREFIX}{whole['stem']}.{whole['end']}"
    lora = _LORA.fullmatch(bare)
    return f"{PREFIX}{lora['stem']}.{lora['part']}{lora['end'] or ''}" if lora else PREFIX + bare


def is_trained(name: str) -> bool:
    """Whether a model's parameter is the adapter's, by its name."""
    return _WHOLE.fullmatch(name) is not None or _LORA.fullmatch(name) is not None


def adapter_parameters(model: Any) -> dict[str, Any]:
    """The adapter's parameters in the model, by canonical name."""
    return {canonical(n): p for n, p in model.named_parameters() if is_trained(n)}


# --- loading --------------------------------------------------------------------------------


def load(model: Any, adapter: Adapter) -> Any:
    """The model with the adapter on it, for use rather than training.

    Raises `BadInput` that names every tensor in doubt.
    """
    from peft import get_peft_model

    adapter.config.inference_mode = True
    model = get_peft_model(model, adapter.config)
    fill(model, adapter)
    return model


def fill(model: Any, adapter: Adapter) -> None:
    """Give the model's adapter, which is there already, the weights of the file, all of them.

    Raises `BadInput` before anything is changed where names or shapes disagree.
    """
    from peft import set_peft_model_state_dict

    require(placed(model, adapter))
    weights = {as_saved(key): tensor for key, tensor in adapter.tensors.items()}
    set_peft_model_state_dict(model, weights)
    require([*placed(model, adapter), *arrived(model, adapter)])


def require(checks: list[Check]) -> None:
    """Raises `BadInput` with all that failed."""
    failed = [f"{check.name}: {check.said}" for check in checks if not check.ok]
    if failed:
        raise BadInput("the adapter does not fit: " + "; ".join(failed))


def placed(model: Any, adapter: Adapter) -> list[Check]:
    """Whether each tensor has one parameter of its shape, and each adapter parameter its tensor."""
    wanted = adapter_parameters(model)
    given: dict[str, str] = {}
    twice = [key for key in adapter.tensors if given.setdefault(canonical(key), key) != key]
    nowhere = [key for name, key in given.items() if name not in wanted]
    missing = [name for name in wanted if name not in given]
    shapes = [
        f"{key} is {_shape(adapter.tensors[key])}, the model has {_shape(wanted[name])}"
        for name, key in given.items()
        if name in wanted and adapter.tensors[key].shape != wanted[name].shape
    ]
    count = len(adapter.tensors)
    return [
        _none("keys", nowhere, f"{count} tensors have a place", "no place in the model for"),
        _none("once", twice, "no tensor stands twice", "stands twice:"),
        _none("given", missing, f"{len(wanted)} parameters are given", "not in the file:"),
        _none("shapes", shapes, f"rank {adapter.config.r}, shapes agree", ""),
    ]


def arrived(model: Any, adapter: Adapter) -> list[Check]:
    """Whether each parameter holds its tensor's values, as far as its type can."""
    import torch

    wanted = adapter_parameters(model)

    def differs(key: str, tensor: Any) -> bool:
        parameter = wanted[canonical(key)].detach()
        return not torch.equal(parameter.cpu(), tensor.to(parameter.dtype))

    wrong = [key for key, tensor in adapter.tensors.items() if differs(key, tensor)]
    return [_none("values", wrong, f"{len(wanted)} parameters hold the file's values", "other in")]


def trained(adapter: Adapter) -> Check:
    """Whether every lora_B has left zero, where LoRA begins: one that has not changes nothing."""
    zero = [k for k, t in adapter.tensors.items() if ".lora_B" in k and not t.count_nonzero()]
    count = sum(".lora_B" in key for key in adapter.tensors)
    if count == 0:
        return Check("trained", False, "the file has no lora_B")
    return _none("trained", zero, f"none of {count} lora_B is zero", "zero, as if never trained:")


def finite(adapter: Adapter) -> Check:
    """Whether every value is a number."""
    odd = [key for key, tensor in adapter.tensors.items() if not tensor.isfinite().all()]
    return _none("finite", odd, "every value is finite", "not finite:")


def _none(name: str, found: list[str], good: str, bad: str) -> Check:
    if not found:
        return Check(name, True, good)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return Check(name, False, f"{bad} {', '.join(found[:3])}{more}".strip())


def _shape(tensor: Any) -> str:
    return "x".join(str(size) for size in tensor.shape)
