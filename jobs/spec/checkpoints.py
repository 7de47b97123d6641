"""What the COMPLETE file of a checkpoint says; the job writes it, a store's sync reads it."""

import msgspec


class FileSum(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class Complete(msgspec.Struct, frozen=True):
    """Every file of the checkpoint but COMPLETE itself, by its path inside the folder."""

    step: int
    files: dict[str, FileSum]
