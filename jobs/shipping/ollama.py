"""`ollama create`, where there is an Ollama."""

import shutil
from pathlib import Path

from jobs.shipping.children import ToolFailed, call


def command(name: str, modelfile: Path) -> list[str]:
    return ["ollama", "create", name, "-f", str(modelfile)]


def create(name: str, modelfile: Path) -> str | None:
    """None when the model was created, else one line that says why not."""
    if shutil.which("ollama") is None:
        return "no `ollama` is on PATH, so no model was created there"
    try:
        call(command(name, modelfile))
    except ToolFailed as error:
        return " ".join(str(error).split())
    return None
