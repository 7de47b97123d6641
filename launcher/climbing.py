"""Climbing: when a run is over, what its ladder has next is planned anew, and started.

Each rung is a run of its own, FIRST-2, FIRST-3 …, under what the runs before it have left of the
first one's cap; so its deadline, its watchdog and the guard hold the cap of them all. Whoever sees
a climb through holds its lock (running/climbs.py).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

import msgspec

from launcher import api
from launcher.errors import (
    BadInput,
    LaunchError,
    NoCapacity,
    NothingFits,
    OutsideFailed,
    one_line,
)
from launcher.events import Decided
from launcher.executors.here import ask_again
from launcher.ladder import best, next_step
from launcher.planning.refusals import why_nothing_fits
from launcher.running import climbs
from launcher.running.climbs import Climb
from launcher.running.reconciling import ledger, open_machines, reconcile
from launcher.running.resuming import Resumption, resume, resumption
from launcher.running.runs import submit
from launcher.running.stops import known_stop, require_not_stopped, stopped
from launcher.types import MICROUSD, MOST_USD, Budget, Candidate, Plan, Refused, Run, Step, Story

Say = Callable[[str], None]


class Next(NamedTuple):
    """What comes of a climb's last run: looked at and priced, nothing started."""

    climb: Climb
    step: Step
    plan: Plan | None = None  # of climb and smaller
    resumption: Resumption | None = None  # of again
    stood: Decided | None = None  # a stop that it goes on in spite of

    @property
    def goes_on(self) -> bool:
        return self.step.move not in ("done", "stop")

    @property
    def candidate(self) -> Candidate | None:
        if self.resumption is not None:
            return self.resumption.place.candidate
        return self.plan.chosen if self.plan is not None else None

    @property
    def worst_microusd(self) -> int:
        return self.candidate.worst_microusd if self.candidate is not None else 0

    @property
    def left_microusd(self) -> int | None:
        """Of the cap, for this step."""
        if self.resumption is not None:
            return self.resumption.left_microusd
        return self.plan.budget.max_cost_microusd if self.plan is not None else None

    @property
    def provider(self) -> str:
        return self.candidate.offer.provider if self.candidate is not None else ""

    @property
    def store(self) -> str:
        return self.climb.last.bucket or self.climb.last.store


def waits(run_id: str) -> bool:
    """Whether the run's climb has ended a run of which something may come."""
    climb = climbs.climb_of(ledger(), run_id)
    return climb.climbs and climb.over and climb.last.reason in ("GATE_FAILED", "OUT_OF_MEMORY")


def first_to_climb(run_id: str) -> str | None:
    """The first run of the climb that failed gates would lead to; None where they lead nowhere."""
    climb = climbs.climb_of(ledger(), run_id)
    return climb.first if climb.climbs and climb.plan.job.gates else None


def last_of(run_id: str) -> str:
    """The run that its climb has come to."""
    return climbs.climb_of(ledger(), run_id).last.run_id


def decision(run_id: str) -> Decided | None:
    """What has been decided to come of the run, which who asks for it to go on knows of."""
    return known_stop(ledger(), run_id)


def at_it(run_id: str) -> AbstractContextManager[bool]:
    """To be held by who sees the run's climb through, new or not; false where another does."""
    book = ledger()
    return climbs.at_it(climbs.climb_of(book, run_id).first if book.find(run_id) else run_id)


def next_of(run_id: str, say: Say, stood: Decided | None = None) -> Next:
    """What comes after the climb's last run, which is over; in spite of the stop that `stood` when
    somebody asked for it to go on.

    Raises BadInput where the job cannot be planned any more, OutsideFailed where nobody could say
    what is to be had: to be asked again.
    """
    book = ledger()
    climb = climbs.climb_of(book, run_id)
    if not climb.climbs:
        return Next(climb, Step(move="stop", why="the run does not climb"))
    if not climb.over:
        raise BadInput(f"run {climb.last.run_id} is not over; `launch logs {climb.last.run_id} -f`")
    assert climb.plan.ladder is not None, "a climb has a ladder"
    why = stopped(book, climb.last.run_id, stood)
    if why is not None:
        return Next(climb, Step(move="stop", why=why))
    ask_again(climb.origin)
    so_far = [climbs.tried(book, climb, run) for run in climb.runs]
    budget = climbs.left(book, climb)
    refused: list[Refused] = []
    while True:
        step = next_step(climb.plan.ladder, so_far, budget.max_cost_microusd, refused)
        if step.move in ("done", "stop"):
            return Next(climb, step)
        found = _looked_at(climb, step, budget, say)
        if isinstance(found, Next):
            return found._replace(stood=stood)
        refused.append(found)


def _looked_at(climb: Climb, step: Step, budget: Budget, say: Say) -> Next | Refused:
    """The step as it may be taken now, or why it may not."""
    if step.move == "again":
        return _resumed(climb, step, say)
    try:
        made = _planned(climb, step, budget)
        if made.chosen is None:
            return Refused(step=step, why=_why(made), needs_microusd=_needs(climb, step, budget))
        found = Next(climb, step, plan=made)
        return found._replace(plan=api.ready(made, found.store, None, say))
    except NothingFits as error:
        needs, why = _needs(climb, step, budget), one_line(error)
        return Refused(step=step, why=why, needs_microusd=needs, cut_short=True)


def _resumed(climb: Climb, step: Step, say: Say) -> Next | Refused:
    try:
        return Next(climb, step, resumption=resumption(climb.last.run_id, say))
    except (BadInput, NothingFits, NoCapacity) as error:
        why, short = one_line(error), isinstance(error, NothingFits)
        return Refused(step=step, why=why, cut_short=short)


def _planned(climb: Climb, step: Step, budget: Budget) -> Plan:
    run_id = climbs.next_id(ledger(), climb)
    rung, now = climbs.rung_of(climb, step), api.utc_now()
    return api.plan_rung(climb.plan, rung, budget, run_id, least_bytes=step.least_bytes, now=now)


def _why(made: Plan) -> str:
    return why_nothing_fits(made) if made.candidates else "no offer has more memory"


def _needs(climb: Climb, step: Step, budget: Budget) -> int | None:
    """What the step would take at worst if there were money enough; None: no money helps."""
    if budget.max_cost_microusd is None:
        return None
    richer = msgspec.structs.replace(budget, max_cost_microusd=MOST_USD * MICROUSD)
    fitting = (c for c in _planned(climb, step, richer).candidates if c.verdict != "rejected")
    worst = min((c.worst_microusd for c in fitting), default=0)
    return worst if worst > budget.max_cost_microusd else None


def go_on(ready: Next, say: Say) -> str:
    """Take the step; the id of the run that is under way then. Raises as `submit` does, and
    BadInput where somebody has stopped the climb meanwhile."""
    book, last = ledger(), ready.climb.last.run_id
    with book.alone():
        require_not_stopped(book, last, ready.stood)
        climbs.decide(book, last, ready.step)
    if ready.resumption is not None:
        return resume(ready.resumption, say)
    assert ready.plan is not None, "a step that goes on has a plan or a run"
    origin = msgspec.structs.replace(
        ready.climb.origin, climb=ready.climb.first, rung=ready.step.rung
    )
    return submit(ready.plan, ready.store, say, origin)


def stop(ready: Next, why: str | None = None) -> Step:
    """Write down that the climb is over; `why` where somebody did not want it to go on."""
    step = ready.step if why is None else Step(move="stop", why=why)
    climbs.decide(ledger(), ready.climb.last.run_id, step)
    return step


def cancel(run_id: str) -> Run:
    """End the run's climb: the run of it that is under way, or the step that it waits for, also to
    another offer. Raises BadInput where there is none of these."""
    book = ledger()
    with suppress(OutsideFailed):  # it may have ended unseen; where not, the stop is written first
        reconcile(book, climbs.climb_of(book, run_id).last)
    with book.alone():
        climb = climbs.climb_of(book, run_id)
        last, watched = climb.last, climbs.is_seen_through(climb.first)
        moving = last.state == "FAILED" and watched  # to the next offer, or about to
        waiting = moving or last in book.undecided()
        if waiting or not last.ended:
            climbs.decide(book, last.run_id, Step(move="stop", why="cancelled"))
    return last if waiting else api.cancel(last.run_id)


def interrupted(run_id: str, error: LaunchError) -> Step:
    """A climb that cannot be gone on with now. It may be later, unless it is the job's own fault,
    which is written down."""
    climb = climbs.climb_of(ledger(), run_id)
    why = f"{one_line(error)}; `launch --run-id {climb.first}` tries again"
    if open_machines(climb.last):
        why += f"\nthe machine of {climb.last.run_id} may be there, and cost money: launch guard"
    step = Step(move="stop", why=why, cut_short=isinstance(error, NothingFits))
    if isinstance(error, BadInput):
        climbs.decide(ledger(), climb.last.run_id, step)
    return step


class Outcome(NamedTuple):
    """A climb that is over, or as far as it has come."""

    best: str  # the run that counts: the best one trained, else the last
    story: tuple[Story, ...]


def outcome(run_id: str) -> Outcome:
    book = ledger()
    climb = climbs.climb_of(book, run_id)
    ended = [climbs.tried(book, climb, run) for run in climb.runs if run.ended]
    number = best(ended)
    chosen = climb.last.run_id if number is None else ended[number].run_id
    return Outcome(chosen, climbs.story(book, climb))
