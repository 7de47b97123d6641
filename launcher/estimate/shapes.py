"""Where a model's shape comes from (folder, embedded facts, Hub), and what its name claims."""

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs.spec import Model
from launcher.errors import BadInput, LaunchError, OutsideFailed
from launcher.estimate.tensors import ModelShape, from_config

__all__ = [
    "ModelShape",
    "embedded_config",
    "from_config",
    "known_ids",
    "name_disagrees",
    "named_parameters",
    "shape_of",
]

Source = Literal["config.json", "embedded", "hub"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Not in the middle of a word or number: "A3B" (active parameters of an MoE), "8x7B", "v0.3", "4k"
# and "1_8B" say nothing safe.
_NAMED = re.compile(r"(?<![A-Za-z0-9.])(?<!\d_)(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")

# Names round: Gemma-2-2b holds 2.61 B (1.31), Llama-3.2-1B 1.24 B, gemma-7b 8.54 B (1.22). A name
# that is off by a size class (7B against 0.5B, 1.5B or 3B) lies far outside. Assumption.
NAME_RATIO_LOW, NAME_RATIO_HIGH = 0.7, 1.45


def shape_of(
    model: Model, download: Callable[[str, str | None], Path] | None = None
) -> tuple[ModelShape, Source]:
    """The model's shape and where it came from; only an id that is not embedded asks the network.

    `download` fetches (id, revision) → a local config.json; by default from the Hub. Raises
    `BadInput` when a folder or its config.json is missing or makes no model, `OutsideFailed`
    when the Hub does not answer.
    """
    folder = Path(model.id).expanduser()
    if folder.is_dir():
        return _from_folder(folder), "config.json"
    config = embedded_config(model.id)
    if config is not None:
        return from_config(config), "embedded"
    if _HUB_ID.fullmatch(model.id) is None:
        raise BadInput(
            f"model: no folder {model.id}\n"
            "--model takes a folder with config.json, or a Hub id such as Qwen/Qwen2.5-7B-Instruct"
        )
    path = (download or _download)(model.id, model.revision)
    return from_config(_read(path)), "hub"


def embedded_config(model_id: str) -> dict[str, Any] | None:
    """The config.json fields embedded for a Hub id, None where there are none."""
    return _embedded().get(model_id.lower())


def known_ids() -> tuple[str, ...]:
    """The Hub ids whose shapes are embedded."""
    return tuple(i for entry in _entries() for i in entry.ids)


class _Entry(msgspec.Struct, frozen=True):
    ids: tuple[str, ...]
    config: dict[str, Any]


class _Facts(msgspec.Struct, frozen=True):
    models: tuple[_Entry, ...]


@cache
def _entries() -> tuple[_Entry, ...]:
    raw = Path(__file__).with_name("known_models.json").read_bytes()
    return msgspec.json.decode(raw, type=_Facts).models


@cache
def _embedded() -> dict[str, dict[str, Any]]:
    return {i.lower(): entry.config for entry in _entries() for i in entry.ids}


def _from_folder(folder: Path) -> ModelShape:
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(
            f"model: {folder} has no config.json\n"
            "name the folder that save_pretrained() wrote, or a Hub id"
        )
    return from_config(_read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as e:
        raise BadInput(f"model: {path}: no readable config.json: {e}") from e


def _download(model_id: str, revision: str | None) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as e:
        raise BadInput(
            f"model: {model_id} is no folder here and not among the embedded models\n"
            "asking the Hub needs: pip install 'loralift[hub]'; or name a folder: --model DIR"
        ) from e
    try:
        return Path(hub.hf_hub_download(model_id, "config.json", revision=revision))
    except Exception as e:  # the client's errors, and those of its transport, share no base
        raise _hub_error(model_id, e) from e


def _hub_error(model_id: str, error: Exception) -> LaunchError:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    kinds = {k.__name__ for k in type(error).__mro__}
    missing = kinds & {"RepositoryNotFoundError", "EntryNotFoundError", "RevisionNotFoundError"}
    if missing and "LocalEntryNotFoundError" not in kinds:  # the latter: no network, nothing cached
        return BadInput(
            f"model: the Hub has no config.json for {model_id}: {said}\n"
            "check the id (a private model needs HF_TOKEN), or name a folder: --model DIR"
        )
    return OutsideFailed(
        f"model: asking the Hub for {model_id}/config.json failed: {said}\n"
        "try again, or name a folder with its config.json: --model DIR"
    )


def named_parameters(model_id: str) -> float | None:
    """Parameters that a name claims ("7B" → 7e9, "135M" → 135e6), None where it says nothing."""
    match = _NAMED.search(model_id.rstrip("/").rsplit("/", 1)[-1])
    if match is None:
        return None
    return float(match[1]) * (1e9 if match[2] in "bB" else 1e6)


def name_disagrees(named: float | None, parameters: int) -> bool:
    """Whether the real count lies outside NAME_RATIO_LOW..HIGH times what the name claims."""
    return named is not None and not NAME_RATIO_LOW <= parameters / named <= NAME_RATIO_HIGH
