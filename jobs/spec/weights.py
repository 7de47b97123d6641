"""A hash that binds a base model's weights, cheap enough to take at every start.

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

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"  # transformers' names
SAMPLED_BYTES = 4096  # of each tensor: one page


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files. Raises ValueError where there are none, or where an index
    names one that is not there."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no .safetensors weights; convert them with save_pretrained")
    index = folder / INDEX
    if (folder / ONE).is_file() or not index.is_file():  # transformers looks for them in this order
        return files
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of weights: {error!r}") from None
    missing = sorted(name for name in named if not (folder / name).is_file())
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of its files of weights: {missing[0]}; "
            "give the whole folder"
        )
    return files


def weights_sha256(folder: Path) -> str:
    """Of the folder's safetensors files. Raises ValueError where there are none, or one is none."""
    files = weight_files(folder)
    digest = hashlib.sha256()
    for file in files:
        for part in _sampled(file):
            digest.update(part)
    return digest.hexdigest()


def _sampled(file: Path) -> Iterator[bytes]:
    """Header, then the beginning of each tensor. Layout: https://github.com/huggingface/safetensors
    (8 bytes length, little endian; JSON; the tensors' bytes)."""
    with file.open("rb") as opened:
        try:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = opened.read(length)
            tensors = json.loads(header)
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            raise ValueError(f"{file} is no safetensors file: {error}") from None
        yield header
        places = sorted(t["data_offsets"] for name, t in tensors.items() if name != "__metadata__")
        for begin, end in places:
            opened.seek(8 + length + begin)
            yield opened.read(min(SAMPLED_BYTES, end - begin))
