"""In the image's build: the environment is the lock's, its heavy parts can be imported, and torch
is built for the CUDA that the image's label will name, or for the processor.

`python -P check_stack.py requirements.lock CUDA`; ends with a line that says what is not so.
"""

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version

IMPORTED = ("torch", "bitsandbytes", "transformers", "accelerate", "peft", "trl", "msgspec")


def main(lock: str, cuda: str) -> str | None:
    """What is wrong, for sys.exit."""
    with open(lock, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line[:1].isalnum()]
    for name, _, wanted in (line.partition("==") for line in lines):
        try:
            found = version(name).partition("+")[0]  # torch says for which device it was built
        except PackageNotFoundError:
            return f"{name} {wanted} is locked and not here"
        if found != wanted:
            return f"{name} {found} is here, {wanted} is locked"
    for module in IMPORTED:
        importlib.import_module(module)
    built_for = sys.modules["torch"].version.cuda
    if built_for not in (cuda, None):
        return f"torch is built for CUDA {built_for}, this version counts with {cuda}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
