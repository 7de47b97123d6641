"""The trained weights, as they were before a trainer borrowed the model.

They wait on the disk meanwhile: with `strategy: full` they would be a second copy of the model in
memory.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import layout
from jobs.attempt import Attempt


@contextlib.contextmanager
def weights_aside(a: Attempt, model: Any) -> Iterator[Path]:
    """Inside, the model may be trained; afterwards its weights are as they were.

    Yields a folder that goes away at the end.
    """
    folder = a.folder / f"{layout.WEIGHTS_ASIDE}.{a.ranks.rank}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        put_away(model, folder)
        yield folder
        put_back(model, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trained(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def put_away(model: Any, folder: Path) -> None:
    """Every trained weight into a file of its own: no more than one is copied at a time."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    for i, parameter in enumerate(trained(model)):
        save_file({"weight": parameter.detach().contiguous()}, folder / f"{i}.safetensors")


def put_back(model: Any, folder: Path) -> None:
    """The same values in the same types; no gradient is left."""
    import torch
    from safetensors.torch import load_file

    with torch.no_grad():
        for i, parameter in enumerate(trained(model)):
            parameter.copy_(load_file(folder / f"{i}.safetensors")["weight"])
            parameter.grad = None
