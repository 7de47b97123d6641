"""Ollama, where it is installed."""

import shutil
from pathlib import Path


def is_here() -> bool:
    return shutil.which("ollama") is not None


def command(name: str, modelfile: Path) -> list[str]:
    """What makes the model known to Ollama; it copies the GGUF file into its own store."""
    return ["ollama", "create", name, "-f", str(modelfile)]
