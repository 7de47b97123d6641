"""Where jobs run. Executors are a table of names, imported on use."""

from functools import cache
from importlib import import_module

from launcher.errors import BadInput
from launcher.executors.base import Executor
from launcher.types import Candidate

MANAGED = "managed"
# name → module:class
EXECUTORS = {
    "process": "launcher.executors.process:ProcessExecutor",
    "docker": "launcher.executors.container:DockerExecutor",
    "podman": "launcher.executors.container:PodmanExecutor",
    "skypilot": "launcher.executors.skypilot:SkyPilotExecutor",
    MANAGED: "launcher.executors.managed:ManagedExecutor",
}

# A machine that is lost after so long has cost more than the minutes in which a managed job is
# started elsewhere. Assumption.
LONG_RUN_HOURS = 6.0
# SkyPilot gives a managed job's machine so long without a job before it takes itself down, whatever
# the task says (_AUTODOWN_MINUTES of sky/jobs/recovery_strategy.py, 0.14.1). It is what ends the
# machine where the controller is gone.
AUTODOWN_MINUTES = 10


def chosen_executor(candidate: Candidate, has_store: bool) -> str:
    """The name of the executor for an attempt there. Raises BadInput.

    On this machine `here.py` chooses.
    A spot machine, or a long run, goes through SkyPilot's managed jobs, which start it again when
    the machine is lost: from what its store has, so only where there is one.
    """
    offer, estimate = candidate.offer, candidate.estimate
    assert candidate.spec is not None, "what can be started has a spec"
    assert estimate is not None, "what can be started has an estimate"
    if offer.executor == "process":
        from launcher.executors.here import local_executor  # asked of no rented machine

        return local_executor(candidate.spec).name
    worth_it = offer.spot or estimate.hours_expected >= LONG_RUN_HOURS
    if offer.executor == "skypilot" and has_store and worth_it:
        return MANAGED
    return offer.executor or ""


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
