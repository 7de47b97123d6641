"""Waiting for what comes by itself; the bound is generous, machines are shared."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0  # seconds until a test that waits says that it waited in vain


def wait_for(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + seconds
    while not (seen := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return seen
