"""Whether an answer is JSON that holds a schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.outcome import BadInput


class Schema:
    """A JSON schema of any draft that the `jsonschema` library knows; its `$schema` says which.

    References to other documents are not fetched: a schema is whole or refused. Raises `BadInput`
    for what is no schema.
    """

    def __init__(self, path: Path) -> None:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry

        try:
            schema = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise BadInput(f"eval.schema: {path}: not JSON: {error}") from None
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            where = "/".join(map(str, error.absolute_path)) or "the top"
            raise BadInput(f"eval.schema: {path}: at {where}: {error.message}") from None
        _require_whole(schema, path)
        self._validator: Any = kind(schema, registry=Registry())

    def holds(self, text: str) -> bool:
        """Whether the text is JSON and valid."""
        from referencing.exceptions import Unresolvable

        try:
            return bool(self._validator.is_valid(json.loads(text)))
        except (ValueError, RecursionError, Unresolvable):
            return False


def _require_whole(schema: Any, path: Path) -> None:
    """Raises `BadInput` for a `$ref` that leads nowhere: answers would only meet it later."""
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    address = resource.id() or ""
    resolver = Registry().with_resource(address, resource).resolver(address)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise BadInput(
                f"eval.schema: {path}: $ref {reference} leads nowhere in this file, and no other "
                "is fetched"
            ) from None


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
