"""One tree of errors. Each says what, why and what to do next, in at most three lines.

LaunchError
├── BadInput          exit 2: a recipe, a flag, a data file or a model folder is wrong
│   ├── NotHere       what this environment lacks, and another terminal's may have
│   └── NotThere      the registry has no such image, or none for us: executors/registry.py
├── NothingFits       exit 3: no offer fits the model, the cap or the hours
├── GateFailed        exit 5: it failed its gates, and what was asked is for what passed
└── OutsideFailed     exit 4: a system outside this program failed
    ├── NoCapacity    the provider has none of it now; the next offer may be had
    └── EngineFailed  Docker or Podman did not answer, or refused: executors/engines.py

A run that fails is no error of the launcher but an outcome: exit 1, or 5 when it trained and a
gate failed. Ctrl-C is none either: exit 130 (commands/through.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

GATE_FAILED_EXIT = 5
FOLDER_IS_GONE = "the folder that you are in was removed\n`cd` into one that is there"


def one_line(error: BaseException) -> str:
    """What an error says, whatever lines it has; one that says nothing is named."""
    return " ".join(str(error).split()) or repr(error)


def folder_is_gone(error: Exception) -> bool:
    """Whether it came of a working folder that is not there any more."""
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except FileNotFoundError:
            return True
    return False


class LaunchError(Exception):
    exit_code = 1


class BadInput(LaunchError):
    exit_code = 2


class NotHere(BadInput):
    """What this environment lacks, and another terminal's may have."""


class NothingFits(LaunchError):
    exit_code = 3


class GateFailed(LaunchError):
    exit_code = GATE_FAILED_EXIT


class OutsideFailed(LaunchError):
    exit_code = 4


class NoCapacity(OutsideFailed):
    pass


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """A disk that is full, or cannot be written, is a system outside: `what` cannot be done."""
    try:
        yield
    except BrokenPipeError:  # no disk but a reader, who has had enough
        raise
    except OSError as error:
        raise OutsideFailed(
            f"{what}: {error}\nlook at the folder's rights and its disk's free space"
        ) from None
