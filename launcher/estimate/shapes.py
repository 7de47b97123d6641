"""Where a model's shape comes from: a folder, the embedded facts, or the Hub."""

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs.spec import Model
from launcher.errors import BadInput, LaunchError, OutsideFailed
from launcher.estimate.configs import from_config
from launcher.estimate.tensors import ModelShape

__all__ = [
    "ModelShape",
    "embedded_config",
    "from_config",
    "known_ids",
    "shape_of",
]

Source = Literal["config.json", "embedded", "hub"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


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
