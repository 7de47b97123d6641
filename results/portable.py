"""What a run is called elsewhere: its spec, and messages, without the machine's folders."""

import re
from pathlib import PurePath

import msgspec
import yaml

from jobs.spec import JobSpec, ResolvedSpec


def on_hub(spec: ResolvedSpec) -> bool:
    """Whether the base is one of the Hub's: no folder, and not drawn from a seed."""
    return spec.model.init == "pretrained" and not _is_path(spec.model.id)


def recipe(spec: ResolvedSpec) -> str:
    """What was trained, as a recipe: the job without what ties it to a machine or a moment."""
    every = msgspec.to_builtins(portable(spec))
    named = {key: every[key] for key in JobSpec.__struct_fields__ if every[key] is not None}
    return yaml.safe_dump(named, sort_keys=False, allow_unicode=True, width=100)


def portable(spec: ResolvedSpec) -> ResolvedSpec:
    """The same with files and folders by their own names, without where they lay."""
    data, judged = spec.data, spec.eval
    sets = {key: _name(getattr(data, key)) for key in ("train", "validation", "test", "replay")}
    return msgspec.structs.replace(
        spec,
        model=msgspec.structs.replace(spec.model, id=own_name(spec.model.id)),
        data=msgspec.structs.replace(data, **sets),
        eval=msgspec.structs.replace(
            judged,
            golden=_name(judged.golden),
            schema=_name(judged.schema),
            metrics=tuple(own_name(metric) for metric in judged.metrics),
        ),
        resume_from=_name(spec.resume_from),
    )


def own_name(text: str) -> str:
    """A path's last name; what is none (an id, `hub:ID`) as it is."""
    return PurePath(text).name if _is_path(text) else text


def without_folders(message: str) -> str:
    """A message of a job with each absolute path in it shortened to its last name."""
    return re.sub(r"(?<![\w/])~?/(?:[^\s/:'\"]+/)+([^\s/:'\"]+)", r"\1", message)


def _name(text: str | None) -> str | None:
    return None if text is None else own_name(text)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~", "./", "../"))
