"""What registries have said of images, kept for plans: a plan asks nobody."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from launcher import paths
from results.sums import sha256_of


class Registered(Struct, frozen=True, kw_only=True):
    """An image as its registry has it."""

    digest: str  # of what the reference names, as NAME@sha256:... pins it
    architecture: str
    compressed_bytes: int  # what a machine pulls that has none of its layers
    labels: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()  # what its containers run, whatever command they are given
    is_public: bool = True  # shown to who has no login, as a rented machine has none
    as_of: str = ""  # ISO date


def keep(reference: str, found: Registered) -> None:
    """For later plans with that reference. Raises OSError."""
    dated = msgspec.structs.replace(found, as_of=datetime.now(UTC).date().isoformat())
    paths.write_aside(_file(reference), msgspec.json.encode(dated))


def known(reference: str) -> Registered | None:
    """What was said of it last."""
    try:
        return msgspec.json.decode(_file(reference).read_bytes(), type=Registered)
    except (OSError, msgspec.DecodeError):
        return None


def _file(reference: str) -> Path:
    return paths.images_folder() / f"{sha256_of(reference.encode())[:32]}.json"
