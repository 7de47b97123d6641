"""Which versions of which libraries a job ran with."""

import sys
from importlib.metadata import PackageNotFoundError, version

VERSIONS_OF = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
)


def versions() -> dict[str, str]:
    """Version by name, Python's own first; what is not installed is left out."""
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
