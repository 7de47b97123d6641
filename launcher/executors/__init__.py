"""Where jobs run. Executors are a table of names, imported on use."""

from functools import cache
from importlib import import_module

from launcher.errors import BadInput
from launcher.executors.base import Executor

# name → module:class
EXECUTORS = {
    "process": "launcher.executors.process:ProcessExecutor",
    "skypilot": "launcher.executors.skypilot:SkyPilotExecutor",
}


@cache
def executor(name: str) -> Executor:
    """The executor of that name, one for the life of the process: it remembers its children.

    Raises BadInput where this version has none.
    """
    if name not in EXECUTORS:
        raise BadInput(
            f"this version cannot submit through `{name}` yet, only plan for it; "
            "use `--on local`, or print the SkyPilot task with `--dry-run --show task`"
        )
    module, _, kind = EXECUTORS[name].partition(":")
    made: Executor = getattr(import_module(module), kind)()
    return made
