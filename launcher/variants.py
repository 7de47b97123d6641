"""Pure: what a recipe leaves open of micro-batch and checkpointing, settled for one offer.

Neither changes what is learnt, only how long it takes and in how much memory: the fastest that
fits is part of the plan.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from jobs.spec import ResolvedSpec, Train
from launcher.types import Estimate

# A share of the fastest's hours. Whatever is this near is as fast, and the one of least memory is
# taken: the hours are not known any better.
AS_FAST = 0.02


class Variant(Struct, frozen=True):
    """One way to run the job, with what it needs."""

    spec: ResolvedSpec
    estimate: Estimate


class Settled(Struct, frozen=True):
    taken: Variant  # the fastest that fits, else the smallest
    least_bytes: int  # the upper bound of the smallest: no less memory will do


def settle(
    spec: ResolvedSpec,
    asked: Train,
    usable_bytes: int,
    estimate: Callable[[ResolvedSpec], Estimate],
) -> Settled:
    """`spec` with what `asked` leaves open to the plan filled in, for memory of `usable_bytes`.

    Every micro-batch that divides the effective batch is tried, with checkpoints and without.
    """
    found: list[Variant] = []
    for checkpointing in _checkpointing(asked):
        for rows in _micro_batches(spec, asked):
            train = msgspec.structs.replace(
                spec.train, micro_batch=rows, activation_checkpointing=checkpointing
            )
            one = msgspec.structs.replace(spec, train=train)
            found.append(Variant(one, estimate(one)))
            if found[-1].estimate.memory_upper_bytes > usable_bytes:
                break  # more rows need more
    smallest = min(found, key=_bytes)
    fitting = [v for v in found if _bytes(v) <= usable_bytes]
    if not fitting:
        return Settled(smallest, _bytes(smallest))
    fastest = min(v.estimate.hours_expected for v in fitting)
    near = [v for v in fitting if v.estimate.hours_expected <= fastest * (1 + AS_FAST)]
    return Settled(min(near, key=_bytes), _bytes(smallest))


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
    yield from (rows for rows in range(1, of_one + 1) if of_one % rows == 0)
