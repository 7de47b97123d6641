"""Paths of a recipe and of flags made absolute: a recipe's are below its folder."""

import os
from pathlib import Path
from typing import Any

from launcher.inputs import hub_data
from launcher.inputs.yaml_tree import Tree
from launcher.types import DATA_FILES


def looks_like_path(text: str) -> bool:
    """Whether a model name means a folder: it starts like a path, or is one here."""
    return text.startswith((".", "/", "~", os.sep)) or os.path.isdir(text)


def absolute(text: str, folder: Path) -> str:
    return os.path.abspath(folder / os.path.expanduser(text))


def path_or_name(text: str, folder: Path) -> str:
    """An absolute path where it starts like one or is a folder, else the name that it is."""
    return absolute(text, folder) if looks_like_path(text) or (folder / text).is_dir() else text


def in_recipe(tree: Tree, folder: Path) -> None:
    """Make every path of the recipe one below its folder."""
    model = tree.get("model")
    if isinstance(model, dict) and isinstance(model.get("id"), str):
        model["id"] = path_or_name(model["id"], folder)
    files_of(tree, folder)


def files_of(tree: Tree, folder: Path) -> None:
    """The same for data, for what judges answers, and for the run that is gone on from."""
    data, judging = tree.get("data"), tree.get("eval")
    if isinstance(data, dict):
        for name in DATA_FILES:
            if isinstance(data.get(name), str):
                data[name] = data_source(data[name], folder)
    if isinstance(judging, dict):
        for key in ("golden", "schema"):
            if isinstance(judging.get(key), str):
                judging[key] = absolute(judging[key], folder)
        if isinstance(judging.get("metrics"), list):
            judging["metrics"] = [_own_metric(entry, folder) for entry in judging["metrics"]]
    parent = tree.get("resume_from")  # else a run's id, or hub:
    if isinstance(parent, str):
        tree["resume_from"] = path_or_name(parent, folder)


def data_source(text: str, folder: Path) -> str:
    """An absolute path, or a Hub id as it is."""
    if hub_data.is_id(text) and not (folder / text).exists():
        return text
    return absolute(text, folder)


def _own_metric(entry: Any, folder: Path) -> Any:
    """`checks:tone` and `my.checks:tone` as the file beside the recipe: `/…/checks.py:tone`."""
    if not isinstance(entry, str) or ":" not in entry:
        return entry  # the strict conversion says what is expected
    module, _, function = entry.rpartition(":")
    file = module if module.endswith(".py") else module.replace(".", "/") + ".py"
    return f"{absolute(file, folder)}:{function}"
