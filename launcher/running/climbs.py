"""Climbs as the ledger knows them: their runs, what these came to, and which wait to go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
from msgspec import Struct

from jobs import layout
from jobs.spec import GateResult, ResolvedSpec, Strategy
from launcher import paths
from launcher.errors import BadInput
from launcher.events import Decided
from launcher.executors.claims import taken, wait
from launcher.ladder import next_step
from launcher.ledger import Ledger
from launcher.running import history, launchers
from launcher.running.budgets import least_left
from launcher.running.clock import spent, utc_now
from launcher.running.reconciling import open_machines
from launcher.running.watching import run_folder
from launcher.times import stamp
from launcher.types import Budget, Candidate, Origin, Plan, Run, Rung, Step, Story, Tried
from results.records import is_held, read_result, records

AT_IT_SECONDS = 1.0  # for those who look to be done


class Climb(Struct, frozen=True, kw_only=True):
    runs: tuple[Run, ...]  # in order
    plan: Plan  # of the first
    origin: Origin  # the same of all, but for the rung

    @property
    def first(self) -> str:
        return self.runs[0].run_id

    @property
    def last(self) -> Run:
        return self.runs[-1]

    @property
    def climbs(self) -> bool:
        """Whether failed gates lead anywhere."""
        return self.plan.ladder is not None and self.origin.escalate != "no"

    @property
    def over(self) -> bool:
        """Whether its last run has ended and costs nothing any more."""
        return self.last.ended and not open_machines(self.last)


def climb_of(book: Ledger, run_id: str) -> Climb:
    """The climb that the run belongs to, alone or not. Raises BadInput for a run nobody knows."""
    runs = tuple(book.climb(run_id))
    first = runs[0].run_id
    return Climb(runs=runs, plan=book.plan(first), origin=book.origin(first))


def tried(book: Ledger, climb: Climb, run: Run) -> Tried:
    """What an ended run of the climb came to."""
    candidate, spec = _trained(book, run)
    return Tried(
        run_id=run.run_id,
        rung=_rung(climb, run, spec.strategy),
        state=run.state,
        reason=run.reason,
        gates=_gates(run),
        spent_microusd=spent(run, utc_now()),
        starts=len(run.attempts),
        micro_batch=spec.train.rows_at_once,
        checkpointing=spec.train.activation_checkpointing,
        device_bytes=candidate.offer.device.total_bytes,
    )


def _trained(book: Ledger, run: Run) -> tuple[Candidate, ResolvedSpec]:
    candidate = book.plan(run.run_id).candidates[run.attempts[-1].candidate]
    assert candidate.spec is not None, "what was started has a spec"
    return candidate, candidate.spec


def _gates(run: Run) -> tuple[GateResult, ...]:
    result = read_result(run_folder(run))
    return result.gates if result is not None else ()


def _rung(climb: Climb, run: Run, strategy: Strategy) -> int:
    """Where the run was: with `auto` an offer that was passed over may have taken it higher."""
    rungs = climb.plan.ladder.rungs if climb.plan.ladder is not None else ()
    higher = range(run.rung, len(rungs))
    return next((n for n in higher if rungs[n].rung.strategy == strategy), run.rung)


def left(book: Ledger, climb: Climb) -> Budget:
    """The first plan's limits, less what its runs have cost and worked: what another may take."""
    budget = climb.plan.budget
    rest = least_left(book, climb.origin.budgets)
    worked = sum(_hours(run) for run in climb.runs)
    return msgspec.structs.replace(
        budget,
        max_cost_microusd=rest if budget.max_cost_microusd is not None else None,
        max_hours=max(0.0, budget.max_hours - worked),
        # without a bucket nothing keeps what is done on spot
        spot=budget.spot and bool(climb.last.bucket),
    )


def _hours(run: Run) -> float:
    """From the run's start to its end; waiting for an answer at a terminal is not counted, nor the
    time until somebody noticed the end."""
    last = run.attempts[-1]
    seen = [r.at for r in records(run_folder(run) / layout.METRICS) if r.at >= last.started_at]
    ends = [at for at in (run.ended_at, last.gone_at, *seen[-1:]) if at]
    end = min((datetime.fromisoformat(at) for at in ends), default=utc_now())
    return max(0.0, (end - datetime.fromisoformat(run.created_at)).total_seconds() / 3600)


def next_id(book: Ledger, climb: Climb) -> str:
    """FIRST-2, FIRST-3 …: the first that no run has, in the ledger, the folder or the bucket.
    Raises OutsideFailed where the bucket cannot be looked at."""
    numbers = count(len(climb.runs) + 1)
    ids = (f"{climb.first}-{number}" for number in numbers)
    return next(run_id for run_id in ids if _is_free(book, climb.last, run_id))


def _is_free(book: Ledger, last: Run, run_id: str) -> bool:
    if book.find(run_id) is not None or (Path(last.store) / run_id).exists():
        return False
    try:
        if last.bucket:
            history.require_free(last.bucket, run_id)
    except BadInput:
        return False
    return True


def rung_of(climb: Climb, step: Step) -> Rung:
    """The step's rung, with what it changes besides."""
    assert climb.plan.ladder is not None, "only a ladder has steps"
    rung = climb.plan.ladder.rungs[step.rung].rung
    return msgspec.structs.replace(rung, set={**rung.set, **step.set})


def decide(book: Ledger, run_id: str, step: Step) -> None:
    """Write down what comes of the run."""
    decided = Decided(move=step.move, why=step.why, cut_short=step.cut_short)
    book.append(run_id, stamp(utc_now()), decided)


def story(book: Ledger, climb: Climb) -> tuple[Story, ...]:
    """Each run of the climb, with what was decided after it."""
    return tuple(_told(book, climb, run) for run in climb.runs)


def _told(book: Ledger, climb: Climb, run: Run) -> Story:
    ladder, said = climb.plan.ladder, book.decided(run.run_id)
    candidate, spec = _trained(book, run)
    offer, rung = candidate.offer, _rung(climb, run, spec.strategy)
    count = f"{offer.count}× " if offer.count > 1 else ""
    return Story(
        run_id=run.run_id,
        rung=ladder.rungs[rung].rung.name if ladder is not None else spec.strategy,
        where=f"{offer.provider} {count}{offer.device.name}",
        state=run.state,
        reason=run.reason,
        gates=_gates(run),
        spent_microusd=spent(run, utc_now()),
        decision=said.why if said is not None else "",
    )


def carried_on(book: Ledger) -> Iterator[str]:
    """Start a launcher for each climb that waits for its next step and that nobody is at: it sees
    it through as one at a terminal would. A line of each."""
    each = ((last.climb, partial(_carried_on, book, last)) for last in book.undecided())
    return launchers.each_told(each)


def _carried_on(book: Ledger, last: Run) -> str | None:
    if open_machines(last):
        return None
    if is_seen_through(last.climb) or launchers.tried_lately(last.climb):
        return None
    if not _leads_on(book, last):
        return None
    launchers.start(last.climb, agreed=book.origin(last.run_id).escalate == "yes")
    log = paths.climb_log(last.climb)
    return f"{last.climb}: its climb goes on after {last.run_id}, {last.reason}; see {log}"


def _leads_on(book: Ledger, last: Run) -> bool:
    """Whether the ladder has anything after the run; where not, that is written down."""
    climb = climb_of(book, last.run_id)
    step = Step(move="stop", why="the run does not climb")
    if climb.plan.ladder is not None:
        so_far = [tried(book, climb, run) for run in climb.runs]
        step = next_step(climb.plan.ladder, so_far, None, ())
    if step.move in ("done", "stop"):
        decide(book, last.run_id, step)
        return False
    return True


@contextmanager
def at_it(first: str) -> Iterator[bool]:
    """Whether this process is the one that sees the climb through; while it is, no other becomes
    so, and when it is killed, one may."""
    path = paths.climb_lock(first)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as lock:
        # Someone who only looks holds it for an instant: ask again before giving up.
        yield wait(lambda: taken(lock.fileno()), AT_IT_SECONDS)


def is_seen_through(first: str) -> bool:
    """Whether anybody is at the climb. Who only looks keeps nobody from it."""
    return is_held(paths.climb_lock(first))
