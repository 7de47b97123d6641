"""Quick at every change: few of hypothesis's examples (`--hypothesis-profile thorough`: many), and
folders in memory, where a ledger's commit waits for no disk."""

import gc
import os

from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")

MEMORY = "/dev/shm"  # Linux's; elsewhere pytest's own choice stays
if os.access(MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported and collected stays: no collection looks through it
