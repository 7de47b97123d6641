"""Hashes that bind a base model, its tokenizer and the code at work. See jobs/spec/weights.py."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs import spec
from jobs.outcome import BadInput


def config_sha256(folder: Path) -> str:
    """Of the folder's config.json, see `jobs.spec.config_sha256`."""
    try:
        return spec.config_sha256((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: config.json cannot be read: {error}") from None


def weights_sha256(folder: Path) -> str:
    """Of the base's safetensors files, see `jobs.spec.weights_sha256`."""
    try:
        return spec.weights_sha256(folder)
    except ValueError as error:
        raise BadInput(str(error)) from None


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


def code_sha256() -> str:
    """Of this package's modules, by their names and contents: what runs, whatever it is called."""
    package = Path(__file__).resolve().parent
    names = sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))
    lines = "".join(f"{file_sha256(package / name)}  {name}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()
