"""SHA256SUMS: the digests of a run's files, as `sha256sum --check` reads them."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path


def sha256_of(source: Path | bytes) -> str:
    """Of a file or of bytes, in hexadecimal. Raises OSError."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_line(name: str) -> bool:
    """Whether a file of that name can be listed: control characters and bytes that are no UTF-8
    make no line of text."""
    return re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) is None


def read_sums(text: str) -> dict[str, str]:
    """Name → digest."""
    # not splitlines(): a name may have what else Unicode ends a line with
    pairs = (line.partition("  ") for line in text.split("\n") if line)
    return {name: digest for digest, _, name in pairs}


def write_sums(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
