"""Hashes that bind a base model and its tokenizer, cheap enough to take at every start.

Reading all weights of a 70-billion-parameter model to hash them costs minutes. What is hashed is
the header of every safetensors file (names, types, shapes, places) and the first
SAMPLED_BYTES of each tensor: two models trained apart differ in every tensor's first bytes, and a
tensor that was swapped, cut or retrained shows. A change that leaves the beginning of every tensor
as it was would not show.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import spec
from jobs.outcome import BadInput

SAMPLED_BYTES = 4096  # of each tensor: one page


def config_sha256(folder: Path) -> str:
    """Of the folder's config.json, see `jobs.spec.config_sha256`."""
    try:
        return spec.config_sha256((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: config.json cannot be read: {error}") from None


def weights_sha256(folder: Path) -> str:
    """Of the base's safetensors files, as the module says.

    Raises `BadInput` where there are none, or one is no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(f"{folder} has no .safetensors weights; convert them with save_pretrained")
    digest = hashlib.sha256()
    for file in files:
        for part in _sampled(file):
            digest.update(part)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Of all that turns text into tokens; cutting, padding and special tokens' roles are left out.

    A tokenizer without a `tokenizers` backend is hashed by its vocabulary alone.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: Any = sorted(tokenizer.get_vocab().items())
    else:
        content = json.loads(backend.to_str())
        content["truncation"] = content["padding"] = None
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sampled(file: Path) -> Iterator[bytes]:
    """Header, then the beginning of each tensor. Layout: https://github.com/huggingface/safetensors
    (8 bytes length, little endian; JSON; the tensors' bytes)."""
    with file.open("rb") as opened:
        try:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = opened.read(length)
            tensors = json.loads(header)
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            raise BadInput(f"{file} is no safetensors file: {error}") from None
        yield header
        places = sorted(t["data_offsets"] for name, t in tensors.items() if name != "__metadata__")
        for begin, end in places:
            opened.seek(8 + length + begin)
            yield opened.read(min(SAMPLED_BYTES, end - begin))
