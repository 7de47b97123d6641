"""Pure: what a recipe leaves open of micro-batch, checkpointing and answers at once, settled for
one offer.

None of them changes what is learnt, only how long it takes and in how much memory: the fastest
that fits is part of the plan.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from jobs.spec import JobSpec, ResolvedSpec, Train
from launcher.types import Estimate

# A share of the fastest's hours at work. Whatever is this near is as fast, and the one of least
# memory is taken: the hours are not known any better.
AS_FAST = 0.02
MOST_ROWS = 256  # of a micro-batch that is tried: more are no faster. Assumption


class Variant(Struct, frozen=True):
    """One way to run the job, with what it needs."""

    spec: ResolvedSpec
    estimate: Estimate


class Settled(Struct, frozen=True):
    taken: Variant  # the fastest that fits, else the smallest
    least_bytes: int  # the upper bound of the smallest: no less memory will do


def settle(
    spec: ResolvedSpec,
    asked: JobSpec,
    usable_bytes: int,
    estimate: Callable[[ResolvedSpec], Estimate],
) -> Settled:
    """`spec` with what `asked` leaves open filled in, for memory of `usable_bytes`.

    `spec` holds the smallest of everything. First the answers at once, as many as fit: the
    evaluation and the training are not there at the same time. Then every micro-batch that divides
    the effective batch, with checkpoints and without.
    """

    def tried(one: ResolvedSpec) -> Variant:
        return Variant(one, estimate(one))

    smallest = tried(spec)
    if _bytes(smallest) > usable_bytes:
        return Settled(smallest, _bytes(smallest))
    answering = (tried(_answering(spec, rows)) for rows in _answers(asked))
    start = next((v for v in answering if _bytes(v) <= usable_bytes), smallest)
    fitting = [start]
    for checkpointing in _checkpointing(asked.train):
        for rows in _micro_batches(spec, asked.train):
            another = _training(start.spec, rows, checkpointing)
            if another == start.spec:
                continue
            one = tried(another)
            if _bytes(one) > usable_bytes:
                break  # more rows need more
            fitting.append(one)
    fastest = min(v.estimate.hours_at_work for v in fitting)
    near = [v for v in fitting if v.estimate.hours_at_work <= fastest * (1 + AS_FAST)]
    return Settled(min(near, key=_bytes), _bytes(smallest))


def _training(spec: ResolvedSpec, rows: int, checkpointing: bool) -> ResolvedSpec:
    train = msgspec.structs.replace(
        spec.train, micro_batch=rows, activation_checkpointing=checkpointing
    )
    return msgspec.structs.replace(spec, train=train)


def _answering(spec: ResolvedSpec, rows: int) -> ResolvedSpec:
    return msgspec.structs.replace(spec, eval=msgspec.structs.replace(spec.eval, batch=rows))


def _answers(asked: JobSpec) -> tuple[int, ...]:
    """Answers at once, the most first."""
    return (16, 8, 4, 2) if asked.eval.batch == "auto" else ()


def _bytes(variant: Variant) -> int:
    return variant.estimate.memory_upper_bytes


def _checkpointing(asked: Train) -> tuple[bool, ...]:
    one = asked.activation_checkpointing
    return (True, False) if one == "auto" else (one,)


def _micro_batches(spec: ResolvedSpec, asked: Train) -> Iterator[int]:
    """Rows per forward pass of one process, the fewest first."""
    if asked.micro_batch != "auto":
        yield asked.micro_batch
        return
    of_one = max(1, spec.train.effective_batch // spec.processes)
    yield from (rows for rows in range(1, min(of_one, MOST_ROWS) + 1) if of_one % rows == 0)
