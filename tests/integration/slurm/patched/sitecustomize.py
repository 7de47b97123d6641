"""Test-only changes to SkyPilot 0.14.1, for its API server and what that starts.

They hold where this folder is on PYTHONPATH and LORALIFT_TEST_API_SERVER names the server. The
installed SkyPilot stays as it is.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any

SERVER = os.environ.get("LORALIFT_TEST_API_SERVER")
CHANGED: dict[str, dict[str, Any]] = {
    # Before SkyPilot believes that a managed job's machine is gone it asks two public addresses
    # whether there is a network, and without one waits for ever.
    "sky.backends.backend_utils": {"_TEST_IP_LIST": [SERVER]},
    # It starts as many controllers of managed jobs as memory allows, before there is any job: 11
    # in 23 GiB, of 170 MB and 7 s of CPU each (measured).
    "sky.utils.controller_utils": {"MAX_CONTROLLERS": 1},
}


class _Changing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in CHANGED else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_change(module: ModuleType) -> None:
                load(module)
                for attribute, value in CHANGED[name].items():
                    assert hasattr(module, attribute), f"{name} has no {attribute} any more"
                    setattr(module, attribute, value)

            spec.loader.exec_module = load_and_change
        return spec


if SERVER is not None:
    sys.meta_path.insert(0, _Changing())
