"""What every executor does. A handle is a URL that finds an attempt's job from any process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from jobs import layout
from jobs.spec import Failure, ResolvedSpec, Result
from launcher.errors import BadInput
from launcher.executors.claims import collecting
from launcher.types import Offer

Say = Callable[[str], None]  # one line of progress for people
GRACE_SECONDS = 150.0  # from a stop to the job's end: it gives itself 120 to finish and save


class Order(Struct, frozen=True, kw_only=True):
    """All that an executor needs to start an attempt."""

    spec: ResolvedSpec
    offer: Offer
    task: str | None  # the SkyPilot task; None on this machine
    up_by: datetime | None  # the machine must be there by then, or the attempt is given up
    # Asked with the run's folder held, before anything is started; raises BadInput.
    require_wanted: Callable[[], None] = lambda: None


class Sight(Struct, frozen=True, kw_only=True):
    """What can be seen of a job, and of the machine under it, now."""

    alive: bool  # asked for, starting or working
    started: bool  # the job itself has begun, not only its set-up
    result: Result | None
    billed: bool  # the machine may still be there; this one's own never is
    doing: str = ""  # before the job has begun, for people
    in_line: bool = False  # its machine is up and has it, and has not begun with its set-up
    setup_failed: bool = False  # it ended before the job began
    gone_at: str | None = None  # when the machine went, where that is known
    never_there: bool = False  # no machine ever was
    reached: bool = True  # the job was handed over: the machine may hold something of it


def name_of(handle: str) -> str:
    """What follows the handle's scheme."""
    return handle.partition(":")[2]


class Executor(Protocol):
    poll_seconds: float  # between two looks

    def handle(self, run_id: str, attempt: int) -> str:
        """Where the attempt's job is or will be: known before it is started."""

    def handle_on(self, held: str, run_id: str, attempt: int) -> str:
        """The same for a job on the machine of the attempt with the handle `held`. Raises BadInput
        where a machine cannot be handed on."""
        raise BadInput(f"no machine is handed on by the executor of {held}")

    def require_ready(self) -> None:
        """Raises BadInput where something must be set up before it can submit at all."""

    def submit(self, handle: str, order: Order, say: Say) -> None:
        """Start the job, or start it again from its last complete checkpoint.

        Returns when it is started, not when it works. Raises NoCapacity when the offer cannot be
        had now, OutsideFailed otherwise.
        """

    def clear(self, handle: str) -> None:
        """Remove the answer of an ended attempt, so that it is not taken for the next one's."""
        for stale in (layout.RESULT, layout.PID):
            (self.folder(handle) / stale).unlink(missing_ok=True)

    def look(self, handle: str) -> Sight:
        """The job's state, its newest records in `folder`. Raises OutsideFailed when unseen."""

    def stop(self, handle: str, why: Failure | None = None) -> None:
        """Ask the job to finish its step and save, and to say `why`; does not wait."""

    def cancel(self, handle: str) -> None:
        """Ask the job to stop, then make it. Returns when it is gone; its machine may remain."""

    def bring(self, handle: str, until: datetime) -> None:
        """All that the job has written is in `folder` when this returns. Raises OutsideFailed,
        also when it would take longer than `until`."""

    def release(self, handle: str) -> None:
        """Nothing is billed when this returns. Raises OutsideFailed when that is not sure."""

    def account(self, handle: str) -> int | None:
        """Micro-dollars by the provisioner's own reckoning; None where it has none."""

    @contextmanager
    def exclusive(self, handle: str, seconds: float) -> Iterator[None]:
        """Nobody else collects or restarts the job meanwhile. Raises OutsideFailed if one still
        does after so long."""
        with collecting(self.folder(handle), seconds):
            yield

    def folder(self, handle: str) -> Path:
        """The run's working folder on this machine, with whatever has come of it so far."""
