"""Strict conversion of YAML trees, with errors people can act on.

An error names the file or flag, the key's path, what was expected, and the nearest valid name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct

from launcher.errors import BadInput
from launcher.nearest import nearest

T = TypeVar("T")


def get(tree: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(model|data)`$")
_GOT_TYPE = re.compile(r", got `[^`]*`$")


def convert(tree: Mapping[str, Any], kind: type[T], sources: Mapping[str, str], label: str) -> T:
    """`tree` as a `kind`.

    `sources` names who set a dotted key; `label` stands in where nobody did. Raises BadInput.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        at = _AT.search(text)
        path = at["path"] if at else ""
        what = _AT.sub("", text)
        unknown = _UNKNOWN.search(what)
        if unknown:
            key = f"{path}.{unknown['name']}" if path else unknown["name"]
            what = f"unknown key{_nearest_key(kind, key)}"
        elif path:
            key = path
            what = f"{_expected(kind, path, what)}, got {get(tree, path)!r}"
        else:
            key, what = "recipe", _MISSING.sub(r"no `\1`: give it in the recipe or with --\1", what)
        where = sources.get(key) or next(
            (source for k, source in sources.items() if k.startswith(key)), label
        )
        raise BadInput(f"{where}: {key}: {what}") from None


def _expected(kind: type[Any], path: str, what: str) -> str:
    if what.startswith(("Invalid enum value", "Expected `int | str`", "Expected `bool | str`")):
        return "expected one of " + ", ".join(_choices(_field_type(kind, path)))
    return _GOT_TYPE.sub("", f"{what[0].lower()}{what[1:]}")


_SAID = {int: "a whole number", bool: "true, false"}


def _choices(annotation: Any) -> list[str]:
    found = []
    for argument in get_args(annotation):
        if get_args(argument):
            found += _choices(argument)
        elif argument is not type(None) and not isinstance(argument, msgspec.Meta):
            found.append(_SAID.get(argument, str(argument)))
    return found


def _field_type(kind: Any, path: str) -> Any:
    """The annotation at a dotted path such as `lora.r` or `gates[0].min`."""
    for part in filter(None, path.split(".")):
        fields = msgspec.structs.fields(_struct_in(kind) or Struct)
        kind = next((f.type for f in fields if f.name == part.split("[")[0]), None)
    return kind


def _struct_in(annotation: Any) -> type[Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next(filter(None, map(_struct_in, get_args(annotation))), None)


def _all_keys(kind: type[Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        yield prefix + field.name
        inner = _struct_in(field.type)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{field.name}.")


# How alike two names are to be, in one section, and in two: there only nearly the same is meant.
# Assumptions.
_ALIKE, _SAME = 0.5, 0.8


def _nearest_key(kind: type[Any], key: str) -> str:
    keys = list(_all_keys(kind))
    plain = re.sub(r"\[[^]]*\]", "", key)
    parent, _, name = plain.rpartition(".")
    named = {k.rpartition(".")[2]: k for k in reversed(keys)}  # of one name, the first
    here = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == parent}
    if name in named:
        return f"; did you mean `{named[name]}`?"
    for known, alike in ((here, _ALIKE), (named, _SAME)):
        for near in nearest(name, known, 1, alike):
            return f"; did you mean `{known[near]}`?"
    return f"; known keys: {', '.join(here.values())}"
