"""What every executor does. A handle is a URL that finds the job again from any process."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from jobs.spec import ResolvedSpec, Result
from launcher.types import Offer

Say = Callable[[str], None]  # one line of progress for people


class Sight(Struct, frozen=True, kw_only=True):
    """What can be seen of a job now."""

    alive: bool
    started: bool  # the job itself has begun, not only its set-up
    result: Result | None


class Executor(Protocol):
    def handle(self, run_id: str) -> str:
        """Where the run's job is or will be: known before it is started."""

    def submit(self, spec: ResolvedSpec, offer: Offer, say: Say) -> None:
        """Start the job, or start it again from its last complete checkpoint.

        Returns when it is started, not when it works. Raises OutsideFailed.
        """

    def clear(self, handle: str) -> None:
        """Remove the answer of an ended attempt, so that it is not taken for the next one's."""

    def look(self, handle: str) -> Sight:
        """The job's state; never blocks for long."""

    def cancel(self, handle: str) -> None:
        """Ask the job to stop, then make it. Returns when it is gone."""

    def exclusive(self, handle: str) -> AbstractContextManager[None]:
        """Nobody else collects or restarts the job meanwhile. Raises OutsideFailed if one does."""

    def folder(self, handle: str) -> Path:
        """The job's working folder on this machine, with whatever it has written so far."""
