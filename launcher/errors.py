"""One tree of errors. Each says what, why and what to do next, in at most three lines.

LaunchError
├── BadInput        exit 2: a recipe, a flag, a data file or a model folder is wrong
├── NothingFits     exit 3: no offer fits the model, the cap or the hours
├── OutsideFailed   exit 4: a system outside this program failed
└── RunFailed       exit 1: the run itself failed

A gate that fails is no error but an outcome: `GATE_FAILED_EXIT`.
"""

GATE_FAILED_EXIT = 5


class LaunchError(Exception):
    exit_code = 1


class RunFailed(LaunchError):
    exit_code = 1


class BadInput(LaunchError):
    exit_code = 2


class NothingFits(LaunchError):
    exit_code = 3


class OutsideFailed(LaunchError):
    exit_code = 4
