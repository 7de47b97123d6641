"""What a run is called elsewhere: its spec, and messages, without the machine's folders."""

import re
from collections.abc import Iterable
from pathlib import PurePath

import msgspec
import yaml

from jobs.spec import JobSpec, ResolvedSpec

_NAME = r"[^\s/:'\"]+"  # of a file, as far as it can be told within a sentence
_SCHEME = r"(?:file://[^\s/]*)?"


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


def without_folders(message: str, places: Iterable[str] = ()) -> str:
    """A message of a job with each absolute path in it shortened to its last name.

    Where a path with spaces ends is known of what is quoted, and of `places`: files and folders
    of the run's machine, each with what lies below it.
    """
    for place in sorted(places, key=len, reverse=True):
        folders = rf"{re.escape(place.rstrip('/'))}(?!\.?[\w-])"
        below = rf"(?:/{_NAME}){'+' if place.endswith('/') else '*'}"
        path = re.compile(rf"(?<![\w/]){_SCHEME}({folders}{below})")
        message = path.sub(lambda found: PurePath(found[1]).name, message)
    message = re.sub(rf"(['\"]){_SCHEME}~?/[^:'\"]*/([^/:'\"]+)\1", r"\1\2\1", message)
    return re.sub(rf"(?<![\w/]){_SCHEME}~?/(?:{_NAME}/)+({_NAME})", r"\1", message)


def _name(text: str | None) -> str | None:
    return None if text is None else own_name(text)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~", "./", "../"))
