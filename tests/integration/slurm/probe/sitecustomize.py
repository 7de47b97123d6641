"""For SkyPilot's API server in tests: take this machine for a network.

Before it believes that a managed job's machine is gone, SkyPilot 0.14.1 asks two public addresses
whether there is a network (sky/backends/backend_utils.py, _TEST_IP_LIST), and without one waits
for ever. When this folder is on PYTHONPATH, LORALIFT_TEST_PROBE names what it asks in their place.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from types import ModuleType

_MODULE = "sky.backends.backend_utils"


class _AskAnother(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == _MODULE else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: ModuleType) -> None:
                load(module)
                assert module._TEST_IP_LIST, "SkyPilot asks something else by now"
                module._TEST_IP_LIST = [os.environ["LORALIFT_TEST_PROBE"]]

            spec.loader.exec_module = load_and_replace
        return spec


if "LORALIFT_TEST_PROBE" in os.environ:
    sys.meta_path.insert(0, _AskAnother())
