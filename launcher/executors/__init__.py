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

    Raises BadInput where this version has none: a ledger of a newer one may name it.
    """
    if name not in EXECUTORS:
        raise BadInput(f"this version has no executor `{name}`; update loralift")
    module, _, kind = EXECUTORS[name].partition(":")
    made: Executor = getattr(import_module(module), kind)()
    return made
