"""Ending early but in order: SIGTERM, SIGINT and the deadline.

In training the step at hand is finished and a checkpoint saved; in any other phase the job ends
at once. When the main thread does not react (a hung device, a long call into a library), a timer
thread ends the job from outside.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from jobs.outcome import BadInput, Stopped
from jobs.spec import Failure, FailureReason

# How long a stop may take before the timer thread ends the job. Assumption: one optimizer step
# and one adapter checkpoint take less on anything this is run on.
GRACE_SECONDS = 120.0


class Stop:
    """Carries the wish to stop from signals and the deadline to the job.

    `give_up(stopped)` is called from another thread when nothing happened for `grace_seconds`;
    it must write the result and end the process.
    """

    def __init__(
        self, give_up: Callable[[Stopped], None], grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self.stopped: Stopped | None = None
        self.agreed = False  # by all ranks, at the end of a step
        self._give_up = give_up
        self._grace_seconds = grace_seconds
        self._finishing_step = False
        self._ended = False
        self._why: Path | None = None
        self._deadline: str | None = None

    def listen(self, why: Path | None = None) -> None:
        """Take SIGTERM and SIGINT as a cancellation. Main thread only.

        `why` is a file in which who sends the signal may have left another reason: a `Failure`.
        """
        self._why = why
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._cancel)

    def listen_for_notice(self, number: signal.Signals, message: str) -> None:
        """Take this signal as the machine's preemption."""
        signal.signal(number, lambda *_: self.request("PREEMPTED", message))

    def until(self, deadline: str | None) -> None:
        """Stop at an absolute time, ISO 8601 with its offset. A past one stops at once.

        Raises `BadInput` on a time that cannot be read or has no offset, `Stopped` on a past one.
        """
        if deadline is None:
            return
        seconds = seconds_until(deadline)
        message = f"the deadline {deadline} has passed"
        if seconds <= 0:
            raise Stopped("DEADLINE", message)
        self._deadline = deadline
        signal.signal(signal.SIGALRM, lambda *_: self.request("DEADLINE", message))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        # Signal handlers wait for the interpreter; a thread also fires inside a library call.
        self._end_later(seconds + self._grace_seconds, Stopped("DEADLINE", message))

    def look(self) -> None:
        """At the clock: the timer stands still as long as the machine sleeps."""
        if self._deadline is not None and seconds_until(self._deadline) <= 0:
            self.request("DEADLINE", f"the deadline {self._deadline} has passed")

    def request(self, reason: FailureReason, message: str) -> None:
        """Ask for the end. Raises `Stopped`, except while a training step is being finished."""
        if self.stopped is not None or self._ended:
            return
        self.stopped = Stopped(reason, message)
        self._end_later(self._grace_seconds, self.stopped)
        if not self._finishing_step:
            raise self.stopped

    def adopt(self, reason: FailureReason) -> None:
        """All ranks stop here, for this reason: this one's own, or another's."""
        self.agreed = True
        if self.stopped is None:
            self.request(reason, f"another rank was stopped: {reason}")

    @contextlib.contextmanager
    def finishing_steps(self) -> Iterator[None]:
        """Inside, a request waits for `self.stopped` to be looked at; it is raised at the end."""
        self._finishing_step = True
        try:
            yield
        finally:
            self._finishing_step = False
        if self.stopped is not None:
            raise self.stopped

    def end(self) -> None:
        """The job is writing its result: nothing may interrupt it any more."""
        self._ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _cancel(self, number: int, _frame: object) -> None:
        why = why_stopped(number, self._why)
        self.request(why.reason, why.message)

    def _end_later(self, seconds: float, stopped: Stopped) -> None:
        def give_up() -> None:
            if not self._ended:
                self._give_up(stopped)

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), give_up)
        timer.daemon = True
        timer.start()


def why_stopped(number: int, said: Path | None) -> Failure:
    """A cancellation, or what who sent the signal said in that file."""
    if said is not None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(said.read_bytes(), type=Failure)
    return Failure(reason="CANCELLED", message=f"stopped by {signal.Signals(number).name}")


def seconds_until(moment: str) -> float:
    """Seconds from now to an ISO 8601 time. Raises `BadInput` when it has no offset."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError as error:
        raise BadInput(f"deadline: {moment!r} is no ISO 8601 time") from error
    if at.tzinfo is None:
        raise BadInput(f"deadline: {moment!r} has no UTC offset")
    return (at - datetime.now(UTC)).total_seconds()
