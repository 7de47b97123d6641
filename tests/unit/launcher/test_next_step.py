"""What comes after a run of a climb, and which run of it is the best."""

from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from jobs.spec import GateResult
from launcher.ladder import after, best, next_step
from launcher.types import (
    GIB,
    MICROUSD,
    Escalation,
    Ladder,
    Reason,
    Refused,
    Rung,
    RungPlan,
    Step,
    Tried,
)
from tests.unit.launcher.plans import dollars

NEAR, CLEAR = 0.94, 0.5  # of a bound of 1


def gates(*values: float | None) -> tuple[GateResult, ...]:
    return tuple(
        GateResult(metric=f"m{n}", min=1.0, max=None, value=v, passed=v is not None and v >= 1)
        for n, v in enumerate(values)
    )


def ladder(*rungs: Rung) -> Ladder:
    return Ladder(
        near_miss=0.9,
        rungs=tuple(
            RungPlan(
                rung=rung, offer=None, expected_microusd=0, worst_microusd=0, climbed_microusd=0
            )
            for rung in rungs or Escalation().rungs
        ),
    )


def run(reason: Reason | None, value: float = CLEAR, **changes: object) -> Tried:
    trained = reason in (None, "GATE_FAILED")
    base = Tried(
        run_id="r", rung=0, state="SUCCEEDED" if trained else "FAILED", reason=reason,
        gates=gates(1.0 if reason is None else value) if trained else (),
        spent_microusd=dollars(1), micro_batch=4, checkpointing=False, device_bytes=20 * GIB,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


ENDS = ("BUDGET_EXCEEDED", "STALLED", "LOST", "SETUP_FAILED", "BAD_INPUT", "PILOT_FAILED")
ENDS += ("CANCELLED", "ERROR")
FOUR_IN_LESS = {"train.micro_batch": 2, "train.activation_checkpointing": False}
ONE_CHECKPOINTED = {"train.micro_batch": 1, "train.activation_checkpointing": True}

GOLDEN = [
    (run(None), Step(move="done", why="every gate passed")),
    (run(None, gates=()), Step(move="done", why="no gate was set")),
    (
        run("GATE_FAILED", NEAR),
        Step(move="climb", rung=1, why="m0 nearly passed: qlora, lora.r = 32, lora.alpha = 64"),
    ),
    (run("GATE_FAILED", CLEAR), Step(move="climb", rung=2, why="m0 failed: lora")),
    (run("GATE_FAILED", NEAR, rung=1), Step(move="climb", rung=2, why="m0 nearly passed: lora")),
    (run("GATE_FAILED", rung=2), Step(move="stop", why="the ladder has no rung for this")),
    (
        run("OUT_OF_MEMORY"),
        Step(move="smaller", set=FOUR_IN_LESS, least_bytes=20 * GIB,
             why="out of memory with 4 rows at once: 2"),
    ),
    (
        run("OUT_OF_MEMORY", micro_batch=1),
        Step(move="smaller", set=ONE_CHECKPOINTED, least_bytes=20 * GIB,
             why="out of memory with 1 row at once: activations checkpointed"),
    ),
    (
        run("OUT_OF_MEMORY", micro_batch=1, checkpointing=True, rung=1),
        Step(move="smaller", rung=1, least_bytes=21 * GIB,
             why="out of memory with 1 row at once: a card with more memory"),
    ),
    (
        run("OUT_OF_MEMORY", starts=8),
        Step(move="stop", why="OUT_OF_MEMORY after all 8 starts of this rung"),
    ),
    (
        run("PREEMPTED", rung=2, starts=7),
        Step(move="again", rung=2,
             why="its machine was taken back: it goes on from its last checkpoint"),
    ),
    (
        run("PREEMPTED", starts=8),
        Step(move="stop", why="PREEMPTED after all 8 starts of this rung"),
    ),
    (run("NO_CAPACITY"), Step(move="again", why="no capacity there: the next offer")),
    *(
        (run(reason), Step(move="stop", why=f"r: {reason} ends the climb",
                           cut_short=reason == "BUDGET_EXCEEDED"))
        for reason in ENDS
    ),
]  # fmt: skip


def test_the_table_has_every_reason():
    assert {one.reason for one, _ in GOLDEN} == {None, *get_args(Reason)}


@pytest.mark.parametrize(("last", "step"), GOLDEN, ids=lambda v: getattr(v, "reason", None))
def test_every_reason_has_its_step(last: Tried, step: Step):
    assert next_step(ladder(), [last], dollars(5), []) == step


def test_what_does_not_fit_gives_way_to_the_next():
    last = run("GATE_FAILED", NEAR)
    first = next_step(ladder(), [last], dollars(5), [])
    refused = [Refused(step=first, why="worst $7 > cap $5", needs_microusd=dollars(7))]
    second = next_step(ladder(), [last], dollars(5), refused)
    assert (second.move, second.rung) == ("climb", 2)
    refused.append(Refused(step=second, why="worst $6 > cap $5", needs_microusd=dollars(6)))
    over = next_step(ladder(), [last], dollars(5), refused)
    assert over == Step(
        move="stop",
        cut_short=True,
        why="the cap: $5 left, lora takes $6 at worst; a cap of $7 would pay it",
    )


def test_where_no_money_helps_the_cap_is_not_blamed():
    last = run("GATE_FAILED")
    step = next_step(ladder(), [last], dollars(5), [])
    over = next_step(ladder(), [last], dollars(5), [Refused(step=step, why="needs 90 GiB")])
    assert over == Step(move="stop", why="no way up fits: lora: needs 90 GiB")


def test_a_gate_without_a_value_leads_to_no_rung():
    none = run("GATE_FAILED", gates=gates(None, 1.0))
    why = "m0: no value, which is no miss that another rung would mend"
    assert next_step(ladder(), [none], dollars(5), []) == Step(move="stop", why=why)
    missed_too = run("GATE_FAILED", gates=gates(None, CLEAR))
    assert next_step(ladder(), [missed_too], dollars(5), []).move == "climb"


def test_the_starts_of_a_rung_are_those_of_all_its_runs():
    most = ladder(Rung(strategy="qlora", attempts=3))
    runs = [run("OUT_OF_MEMORY", micro_batch=16, starts=2), run("OUT_OF_MEMORY", micro_batch=8)]
    assert next_step(most, runs[:1], None, []).move == "smaller"
    assert next_step(most, runs, None, []).move == "stop"


@pytest.mark.parametrize(
    ("runs", "number"),
    [
        ([run("GATE_FAILED", 0.5), run("GATE_FAILED", 0.8)], 1),
        ([run("GATE_FAILED", 0.8), run("GATE_FAILED", 0.5)], 0),  # not the last
        ([run("GATE_FAILED", 0.8), run("ERROR")], 0),
        ([run("OUT_OF_MEMORY"), run(None)], 1),
        ([run("ERROR"), run("LOST")], None),
        # more gates before more of the first metric
        ([run("GATE_FAILED", gates=gates(0.9, 0.1)), run("GATE_FAILED", gates=gates(0.2, 1.0))], 1),
        # the cheaper of equals, then the earlier
        ([run("GATE_FAILED", spent_microusd=2), run("GATE_FAILED", spent_microusd=1)], 1),
        ([run("GATE_FAILED"), run("GATE_FAILED")], 0),
        ([run("GATE_FAILED", gates=gates(None)), run("GATE_FAILED", gates=gates(0.0))], 1),
    ],
)
def test_the_best_is_by_gates_then_metric_then_cost(runs: list[Tried], number: int | None):
    assert best(runs) == number


def test_of_an_error_the_less_is_the_better():
    def mae(value: float) -> tuple[GateResult, ...]:
        return (GateResult(metric="mae", min=None, max=0.1, value=value, passed=False),)

    assert best([run("GATE_FAILED", gates=mae(0.5)), run("GATE_FAILED", gates=mae(0.3))]) == 1


# --- any sequence of outcomes -------------------------------------------------------------------

RUNGS = some.lists(
    some.builds(
        Rung,
        strategy=some.sampled_from(["qlora", "lora", "full"]),
        near_miss_only=some.booleans(),
        attempts=some.integers(1, 4),
    ),
    min_size=1,
    max_size=5,
)
OUTCOMES = some.sampled_from([None, "GATE_FAILED", "GATE_FAILED", "OUT_OF_MEMORY", "PREEMPTED",
                              "NO_CAPACITY", *ENDS])  # fmt: skip
MOST_CARDS = 3  # larger and larger ones


@given(RUNGS, some.integers(0, 20), some.data())
def test_no_outcome_spends_over_the_cap_loops_or_stops_too_early(
    rungs: list[Rung], cap_usd: int, data: some.DataObject
):
    """Every step is planned under what is left, at a worst case that is drawn, and a run costs at
    most its worst case, as deadline, watchdog and guard hold."""
    cap = cap_usd * MICROUSD
    climb, tried, left = ladder(*rungs), [], cap
    tried.append(ended(data, rung=0, most=left))
    left -= tried[-1].spent_microusd
    for _ in range(sum(rung.attempts for rung in rungs) + 1):
        step, worst, refused = taken(data, climb, tried, left)
        if step.move in ("done", "stop"):
            break
        assert worst <= left
        if step.move == "smaller":
            assert step not in refused
            assert (step.set, step.least_bytes) != ({}, tried[-1].device_bytes)
        tried.append(ended(data, step.rung, worst, step, tried[-1]))
        left -= tried[-1].spent_microusd
        assert left >= 0
    else:
        pytest.fail("it climbs without end")
    if step.move == "stop" and tried[-1].reason == "GATE_FAILED":
        allowed = set()
        number = tried[-1].rung
        while (number := after(rungs, number, tried[-1].gates, climb.near_miss)) < len(rungs):
            allowed.add(number)
        assert allowed == {one.step.rung for one in refused}  # each was asked, none was affordable


def taken(
    data: some.DataObject, climb: Ladder, tried: Sequence[Tried], left: int
) -> tuple[Step, int, list[Refused]]:
    refused: list[Refused] = []
    while True:
        step = next_step(climb, tried, left, refused)
        if step.move in ("done", "stop"):
            return step, 0, refused
        worst = data.draw(some.integers(0, 8)) * MICROUSD
        cards = 20 * GIB * 1.05 ** (MOST_CARDS + 1)
        if worst <= left and step.least_bytes <= cards:
            return step, worst, refused
        needs = worst if worst > left else None
        refused.append(Refused(step=step, why="drawn", needs_microusd=needs))


def ended(
    data: some.DataObject,
    rung: int,
    most: int,
    step: Step | None = None,
    before: Tried | None = None,
) -> Tried:
    reason = data.draw(OUTCOMES)
    rows = before.micro_batch if before is not None else 8
    kept = before.checkpointing if before is not None else False
    least = before.device_bytes if before is not None else 20 * GIB
    if step is not None and step.move == "smaller":
        rows = step.set.get("train.micro_batch", 8)
        kept = step.set.get("train.activation_checkpointing", False)
        least = step.least_bytes
    return run(
        reason,
        data.draw(some.sampled_from([NEAR, CLEAR])),
        rung=rung,
        spent_microusd=data.draw(some.integers(0, most)),
        micro_batch=rows,
        checkpointing=kept,
        device_bytes=least,
    )
