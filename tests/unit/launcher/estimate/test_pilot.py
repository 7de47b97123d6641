"""What a pilot takes: jobs/pilot.py's steps over its few rows, counted by hand."""

import msgspec
import pytest

from jobs.spec import Evaluation, Pilot, Regression, ResolvedEvaluation, ResolvedSpec
from launcher.estimate import hours, passes
from launcher.estimate.spans import Span
from launcher.estimate.work import Work
from tests.unit.launcher.estimate.test_estimate import QWEN_7B, RTX_4090, shape_for, spec_for

SHAPE = shape_for(QWEN_7B)
# 48 rows of 100 tokens each and 6 held out of 50, over two epochs
WORK = Work(
    train_rows=48, train_tokens=9600, padded_tokens=9600, validation_tokens=300,
    validation_rows=6, judged_tokens=300, judged_rows=6, micro_steps=10, question_tokens=50.0,
)  # fmt: skip


def piloted(examples: int, steps: int, *, generate: bool = False, **train: object) -> ResolvedSpec:
    settings = {"seq_len": 1000, "micro_batch": 1, "effective_batch": 16, **train}
    return msgspec.structs.replace(
        spec_for(QWEN_7B, **settings),
        pilot=Pilot(examples=examples, steps=steps),
        eval=ResolvedEvaluation(generate=generate),
    )


def took(spec: ResolvedSpec) -> Span:
    return hours.pilot(SHAPE, spec, RTX_4090, WORK)[0]


def step(spec: ResolvedSpec, tokens: int) -> Span:
    return passes.step_seconds(SHAPE, spec, RTX_4090, tokens)


def scored(spec: ResolvedSpec, rows: int, length: float) -> Span:
    """Rows passed forward one by one."""
    one = passes.rows_of(SHAPE, 1, length)
    return passes.forward_seconds(SHAPE, spec, RTX_4090, one) * rows


@pytest.mark.parametrize(
    ("examples", "rows", "micro_steps", "tokens", "held_out"),
    [
        # 1,000 tokens: one sequence is all of an epoch, and an epoch all of a step
        (10, 10, 20, 1000, 6),
        # all 48 rows, however many are asked for: 4,800 tokens are 5 sequences, so 5 a step
        (48, 48, 100, 960, 6),
        (100_000, 48, 100, 960, 6),
        (3, 3, 20, 300, 3),
    ],
)
def test_packed_rows_are_the_few_sequences_that_they_fill(
    examples: int, rows: int, micro_steps: int, tokens: int, held_out: int
) -> None:
    spec = piloted(examples, 20)
    wanted = (step(spec, tokens) * micro_steps).plus(scored(spec, 2 * rows, 100))
    assert took(spec) == pytest.approx(wanted.plus(scored(spec, held_out, 50)))


@pytest.mark.parametrize(
    ("examples", "steps", "micro_steps"),
    [
        (10, 20, 200),  # fewer than a step has: each takes all ten
        (40, 3, 40),  # an epoch's steps: 16, 16 and 8
        (40, 5, 72),  # and 16 and 16 of the next
    ],
)
def test_unpacked_rows_are_a_micro_step_each(examples: int, steps: int, micro_steps: int) -> None:
    spec = piloted(examples, steps, packing=False)
    wanted = (step(spec, 100) * micro_steps).plus(scored(spec, 2 * examples, 100))
    assert took(spec) == pytest.approx(wanted.plus(scored(spec, 6, 50)))


def test_several_processes_share_an_epoch() -> None:
    alone = piloted(40, 3, packing=False)
    shared = msgspec.structs.replace(alone, processes=2)  # 20 each in steps of 8, 8 and 4
    spared = step(alone, 100).low * 20  # at best, two do as much as two
    assert took(shared).low == pytest.approx(took(alone).low - spared)


def test_no_more_is_answered_than_is_held_out_or_asked() -> None:
    said = hours.pilot(SHAPE, piloted(10, 20, generate=True), RTX_4090, WORK)[1]
    assert said == "20 steps on 10 rows, then 6 answers"
    few = ResolvedEvaluation(**msgspec.structs.asdict(Evaluation(limit=4, batch=16)))
    limited = msgspec.structs.replace(piloted(10, 20), eval=few)
    assert hours.pilot(SHAPE, limited, RTX_4090, WORK)[1].endswith("then 4 answers")


def test_a_student_scores_and_writes_no_answer() -> None:
    student = msgspec.structs.replace(
        piloted(10, 20, generate=True), task="regression", regression=Regression(dimensions=("a",))
    )
    # each text has its own row; those held out are passed for their loss and for their scores
    wanted = (step(student, 100) * 200).plus(scored(student, 20, 100))
    found, said = hours.pilot(SHAPE, student, RTX_4090, WORK)
    assert found == pytest.approx(wanted.plus(scored(student, 12, 50)))
    assert said == "20 steps on 10 rows, then scores of 6"
