"""SHA256SUMS: the digests of a run's files, as `sha256sum --check` reads them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def sha256_of(source: Path | bytes) -> str:
    """Of a file or of bytes, in hexadecimal. Raises OSError."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sums(text: str) -> dict[str, str]:
    """Name → digest."""
    pairs = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in pairs}


def write_sums(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
