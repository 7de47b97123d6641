"""The fields of a config.json, each checked where it is read and refused by its name."""

from typing import Any

from msgspec import Struct

from launcher.errors import BadInput

# No model has more of anything: the largest published counts are near 2^19, a vocabulary's.
# Assumption: a larger figure is a slip of the pen.
MOST = 2**40
# Of a model as a whole. Assumption: the largest published ones have near 2^40.
MOST_PARAMETERS = 2**50


class Fields(Struct, frozen=True):
    """A config.json, or a section of one."""

    values: dict[str, Any]
    section: str = ""  # the name it stands under

    def get(self, name: str) -> Any:
        """The field as it stands; None where there is none."""
        return self.values.get(name)

    def name_in_file(self, name: str) -> str:
        """The field's path in config.json."""
        return f"{self.section}.{name}" if self.section else name

    def refused(self, name: str, what: str) -> BadInput:
        """The error to raise for a field."""
        return BadInput(f"model: config.json: {self.name_in_file(name)}: {what}")

    def count(self, name: str, least: int = 1) -> int:
        """A whole number. Raises `BadInput`."""
        value = self.get(name)
        if name not in self.values:
            raise self.refused(name, f"expected a whole number >= {least}, but it is missing")
        if type(value) is not int or value < least:
            raise self.refused(name, f"expected a whole number >= {least}, got {value!r}")
        if value > MOST:
            raise self.refused(name, f"expected at most {MOST:,} (2^40), got {value}")
        return value

    def count_or_none(self, name: str) -> int | None:
        """A whole number where the field is said, None where it is null or missing."""
        return self.count(name) if self.get(name) is not None else None

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false. Raises `BadInput`: "false" in quotes would count as true."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.refused(name, f"expected true or false, got {value!r}")
        return value

    def part(self, name: str) -> "Fields":
        """A section. Raises `BadInput`."""
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.refused(name, f"expected a model's fields, got {value!r}")
        return Fields(value, self.name_in_file(name))

    def over(self, defaults: dict[str, Any]) -> "Fields":
        """The same, with values for fields that it leaves out."""
        return Fields({**defaults, **self.values}, self.section)

    def having(self, **values: Any) -> "Fields":
        """The same with these fields instead."""
        return Fields({**self.values, **values}, self.section)
