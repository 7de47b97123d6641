"""What is done in each part of a canary, and what has to be seen for it to be proved.

*receipt* submits, follows and collects, as `launch` does.

*machine*: the job has no end. Nothing is asked until shortly before its deadline, and then the job
is looked at once: one that had failed by itself would prove nothing. From there on SkyPilot is
asked whether the cluster is there, and no more. It must have gone before the guard would act.

*guard*: the same job, its machine's own side made harmless (halting.py). What ends the machine then
is `guard.enforce`, which is what `launch guard` does in its rounds.

Each takes a run that has been submitted, returns what was seen in a line, and raises Unproved, or
OutsideFailed where nothing could be seen.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from launcher.display.progress import watch, watcher
from launcher.errors import OutsideFailed
from launcher.events import MachineChanged
from launcher.executors import executor
from launcher.executors.base import Say, Sight, name_of
from launcher.executors.skypilot import WORKING
from launcher.executors.skypilot_calls import CallFailed, Calls
from launcher.guard import enforce
from launcher.ledger import Ledger
from launcher.planning.canary import PartName
from launcher.running.canary.halting import Unproved, halt
from launcher.running.clock import clock_of, utc_now
from launcher.running.collecting import collect
from launcher.running.reconciling import open_machines, reconcile
from launcher.running.watching import follow
from launcher.types import Run
from results.records import read_result

# Before a deadline: one look takes 5 to 20 s on a busy machine, and took over 30 on two cores at a
# load of 12 (measured on Slurm, November 2026).
LOOK_BEFORE = timedelta(seconds=60)
ASK_SECONDS = 15.0  # between two questions, and between two rounds of the guard
GIVE_UP = timedelta(minutes=10)  # after the cap's end: as long as `sky down` is waited for


class Acting:
    """A submitted run, and what its part has to ask of it."""

    def __init__(self, book: Ledger, run_id: str, calls: Calls, say: Say) -> None:
        self.book, self.run_id, self.calls, self.say = book, run_id, calls, say
        self.due = clock_of(book.plan(run_id), self.run)

    @property
    def run(self) -> Run:
        return self.book.run(self.run_id)

    @property
    def handle(self) -> str:
        return self.run.attempts[-1].handle

    @property
    def cluster(self) -> str:
        return name_of(self.handle)

    def state(self) -> tuple[bool, bool]:
        """Whether the machine is there, and whether SkyPilot takes its job to be at work. Raises
        OutsideFailed."""
        try:
            seen = self.calls("status", cluster=self.cluster)
        except CallFailed as error:
            raise OutsideFailed(
                f"SkyPilot could not say what became of {self.cluster}: {error}"
            ) from None
        return seen["cluster"] is not None, seen["job"] in WORKING

    def sleep_until(self, moment: datetime) -> None:
        time.sleep(max(0.0, (moment - utc_now()).total_seconds()))


def plan_to_receipt(acting: Acting) -> str:
    rate = acting.run.attempts[-1].microusd_per_hour / 3600
    watch(follow(acting.run_id), watcher(acting.say), 0, rate)
    run = acting.run
    if run.state != "SUCCEEDED":
        raise Unproved(f"the sample job {run.state} ({run.reason}): {run.message}")
    home = collect(acting.run_id)
    result = read_result(home)
    assert result is not None, "a run has succeeded by its result"
    files = sum(path.is_file() for path in home.rglob("*"))
    gates = run.message or "all gates passed"
    return f"trained {result.steps} steps, {gates}; {files} files are home and whole"


def ended_by_its_machine(acting: Acting) -> str:
    due = acting.due
    acting.say(f"nobody looks at it now; its deadline is {due.stop_at:%H:%M:%S} UTC")
    acting.sleep_until(due.stop_at - LOOK_BEFORE)
    sight = executor(acting.run.attempts[-1].executor).look(acting.handle)
    doing = _at_its_deadline(sight)
    acting.say(f"{doing}; waiting for the machine to go by itself")
    while utc_now() < due.end_at:
        time.sleep(ASK_SECONDS)
        with suppress(OutsideFailed):
            if not acting.state()[0]:
                return _gone_by_itself(acting, doing)
    raise Unproved(
        f"{doing} at its deadline, {due.stop_at:%H:%M:%S} UTC, and its machine was still there at "
        f"{due.end_at:%H:%M:%S}, when the guard has to act"
    )


def _at_its_deadline(sight: Sight) -> str:
    """What the job was doing; a look that takes long may find that it has just been ended."""
    failure = sight.result.failure if sight.result is not None else None
    if failure is not None and failure.reason == "DEADLINE":
        return "its job was at work"
    if not sight.alive:
        raise Unproved(
            "its job had ended before the deadline, so nothing had to end it; see its log"
        )
    return "its job was at work" if sight.started else "its machine was still setting up"


def _gone_by_itself(acting: Acting, doing: str) -> str:
    now = utc_now()
    told = [e for _, e in acting.book.events(acting.run_id) if isinstance(e, MachineChanged)]
    if any(change.state == "ENDING" for change in told):
        raise Unproved(
            "another launcher or `launch guard` was at work here and ended it: try again"
        )
    reconcile(acting.book, acting.run)
    late = (now - acting.due.stop_at).total_seconds()
    return f"{doing} at its deadline; {late:.0f} s after it SkyPilot had no such machine any more"


def ended_by_the_guard(acting: Acting) -> str:
    due = acting.due
    halted = halt(acting.calls, acting.cluster, acting.run_id, due.stop_at)
    acting.say(f"{halted}; the guard is to end it at {due.end_at:%H:%M:%S} UTC")
    seen_at_work = False
    while open_machines(acting.run):
        left = due.end_at - utc_now()
        if timedelta() < left <= LOOK_BEFORE and not seen_at_work:
            seen_at_work = _still_at_work(acting)
        with suppress(OutsideFailed):  # the next round tries again
            enforce(acting.book, acting.run)
        if utc_now() > due.paid_until + GIVE_UP:
            raise OutsideFailed(f"the machine of {acting.run_id} could not be ended from here")
        time.sleep(min(ASK_SECONDS, max(1.0, (due.end_at - utc_now()).total_seconds())))
    run = acting.run
    if not seen_at_work:
        raise Unproved(f"{halted}; whether the machine was still there at the end was not seen")
    if run.reason != "BUDGET_EXCEEDED":
        raise Unproved(f"{halted}; but its run ended {run.state} ({run.reason}): {run.message}")
    return f"{halted}; {run.message}"


def _still_at_work(acting: Acting) -> bool:
    """False where SkyPilot does not answer. Raises Unproved where the machine ended by itself."""
    with suppress(OutsideFailed):
        there, working = acting.state()
        if not (there and working):
            raise Unproved("its job or machine had ended before the guard had to act")
        return True
    return False


ACTS: dict[PartName, Callable[[Acting], str]] = {
    "receipt": plan_to_receipt,
    "machine": ended_by_its_machine,
    "guard": ended_by_the_guard,
}
