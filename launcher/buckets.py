"""The buckets of runs, as the launcher opens them, and who is shown what moves to and from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.stores import Progress, Store

_progress: ContextVar["Progress | None"] = ContextVar("progress", default=None)


@contextmanager
def shown_to(progress: "Progress") -> Iterator[None]:
    """What is opened inside tells `progress`."""
    before = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(before)


def open_bucket(url: str) -> "Store":
    """Raises StoreError."""
    from results.stores import open_store

    return open_store(url, _progress.get())
