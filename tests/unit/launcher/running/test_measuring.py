from pathlib import Path

import msgspec
import pytest

from jobs.spec import EvalRecord, Failure, PhaseRecord, Record, Result, StepRecord
from launcher.estimate.calibration import calibrate, calibrated
from launcher.estimate.moments import WITHOUT_GRADIENTS
from launcher.running.measuring import ALLOCATED, RESIDENT, measurement
from launcher.types import GIB, Candidate, Measurement, MemoryTerm, Plan

ROOT = Path(__file__).resolve().parents[4]
SEQ_LEN, BATCH = 2048, 16  # the defaults of a spec
FULL = SEQ_LEN * BATCH  # tokens of a full optimizer step


def steps(
    first: int, last: int, pace: float = 2.0, tokens: float = FULL, begun: float = 0.0
) -> list[Record]:
    """Records of steps that took `pace` seconds each; the first of them took a minute."""
    found: list[Record] = []
    seconds = begun
    for number in range(first, last + 1):
        took = pace if found else 60.0
        seconds += took
        found.append(
            StepRecord(
                at="",
                step=number,
                steps_total=100,
                epoch=0.0,
                loss=1.0,
                learning_rate=1e-4,
                grad_norm=None,
                tokens_per_second=tokens / took,
                memory_bytes=0,
                seconds=seconds,
                eta_seconds=0.0,
            )
        )
    return found


def result(**changes: object) -> Result:
    fields = {"run_id": "run-1", "status": "success", "steps": 10, "memory_metric": ALLOCATED}
    return Result(**fields | {"peak_memory_bytes": 6 * GIB} | changes)


@pytest.fixture
def chosen(small_plan: Plan) -> Candidate:
    """5 GiB of tensors, 1 of slack, 0.5 of context; an hour for ten full steps' tokens."""
    candidate = small_plan.chosen
    assert candidate is not None
    estimate = msgspec.structs.replace(
        candidate.estimate,
        memory=(
            *candidate.estimate.memory,
            MemoryTerm(name="slack", bytes=GIB, why="", seen="reserved"),
            MemoryTerm(name="context", bytes=GIB // 2, why="", seen="process"),
        ),
        memory_expected_bytes=6 * GIB + GIB // 2,
        memory_upper_bytes=8 * GIB,
        train_tokens=10 * FULL,
    )
    return msgspec.structs.replace(candidate, estimate=estimate)


def taken(chosen: Candidate, seen: list[Record], **changes: object) -> Measurement:
    found = measurement("a/b", chosen, result(**changes), seen)
    assert found is not None
    return found


def on_cpu(chosen: Candidate) -> Candidate:
    device = msgspec.structs.replace(chosen.offer.device, kind="cpu", name="A Chip", cores=2)
    offer = msgspec.structs.replace(chosen.offer, device=device)
    return msgspec.structs.replace(chosen, offer=offer)


def test_memory_is_held_against_its_own_counter(chosen: Candidate) -> None:
    card = taken(chosen, steps(1, 10))
    assert (card.memory_bytes, card.memory_estimated_bytes) == (6 * GIB, 5 * GIB)
    cpu = taken(on_cpu(chosen), steps(1, 10), memory_metric=RESIDENT)
    assert (cpu.card, cpu.memory_estimated_bytes) == ("A Chip, 2 cores", 6 * GIB + GIB // 2)


def test_several_cards_are_not_taken_for_one(chosen: Candidate) -> None:
    eight = msgspec.structs.replace(chosen.offer, count=8)
    on_eight = msgspec.structs.replace(chosen, offer=eight)
    name = chosen.offer.device.name
    assert [taken(c, steps(1, 10)).card for c in (chosen, on_eight)] == [name, f"8× {name}"]


def test_a_counter_that_sees_something_else_is_left_out(chosen: Candidate) -> None:
    processor = result(memory_metric=RESIDENT)  # the card was pretended: its time is not the card's
    assert measurement("a/b", chosen, processor, steps(1, 10)) is None
    device = msgspec.structs.replace(chosen.offer.device, kind="mps")
    offer = msgspec.structs.replace(chosen.offer, device=device)
    apple = msgspec.structs.replace(chosen, offer=offer)
    assert taken(apple, steps(1, 10), memory_metric=RESIDENT).memory_bytes is None


def test_the_counters_names_are_the_jobs() -> None:
    source = (ROOT / "jobs" / "memory.py").read_text()
    assert f'"{ALLOCATED}"' in source
    assert f'"{RESIDENT}"' in source


def test_a_low_peak_counts_only_where_the_rows_were_full(chosen: Candidate) -> None:
    short = steps(1, 10, tokens=FULL * 0.6)
    assert taken(chosen, steps(1, 10), peak_memory_bytes=4 * GIB).memory_bytes == 4 * GIB
    assert taken(chosen, short, peak_memory_bytes=4 * GIB).memory_bytes is None
    assert taken(chosen, short, peak_memory_bytes=6 * GIB).memory_bytes == 6 * GIB


@pytest.mark.parametrize("name", WITHOUT_GRADIENTS)
def test_a_low_peak_of_an_evaluation_says_nothing(chosen: Candidate, name: str) -> None:
    term = MemoryTerm(name=name, bytes=1, why="16 answers at once")
    estimate = msgspec.structs.replace(chosen.estimate, memory=(*chosen.estimate.memory, term))
    answering = msgspec.structs.replace(chosen, estimate=estimate)
    assert taken(answering, steps(1, 10), peak_memory_bytes=4 * GIB).memory_bytes is None
    assert taken(answering, steps(1, 10), peak_memory_bytes=6 * GIB).memory_bytes == 6 * GIB


def test_what_ran_out_of_memory_did_not_reach_its_peak(chosen: Candidate) -> None:
    failure = Failure(reason="OUT_OF_MEMORY", message="")
    cut = {"failure": failure, "status": "error"}
    assert taken(chosen, steps(1, 10), peak_memory_bytes=4 * GIB, **cut).memory_bytes is None
    assert taken(chosen, steps(1, 10), peak_memory_bytes=6 * GIB, **cut).memory_bytes == 6 * GIB


def test_the_rate_is_of_the_tokens_that_were_trained(chosen: Candidate) -> None:
    found = taken(chosen, steps(1, 10, pace=2.0))
    assert found.training_tokens == 9 * FULL  # the first step warms up
    assert found.training_seconds == pytest.approx(18.0)
    assert found.training_estimated_seconds == pytest.approx(3600 * 9 / 10)


def test_a_run_that_ended_early_has_the_same_rate(chosen: Candidate) -> None:
    whole, half = taken(chosen, steps(1, 100)), taken(chosen, steps(1, 50), steps=50)
    ratio = [m.training_seconds / m.training_estimated_seconds for m in (whole, half)]
    assert ratio[0] == pytest.approx(ratio[1])


def test_evaluations_in_training_are_no_training(chosen: Candidate) -> None:
    """The minute of the step after it is the evaluation's."""
    seen = [*steps(1, 10), EvalRecord(at="", step=10, loss=1.0), *steps(11, 16, begun=78.0)]
    found = taken(chosen, seen, steps=16)
    assert found.training_seconds == pytest.approx((9 + 5) * 2.0)
    assert found.training_tokens == (9 + 5) * FULL


def test_a_resumed_attempt_is_measured_by_its_own_steps(chosen: Candidate) -> None:
    earlier = steps(1, 10, pace=50.0)
    seen = [*earlier, PhaseRecord(at="", phase="train"), *steps(11, 20, begun=510.0)]
    found = taken(chosen, seen, steps=20, resumed_from_step=10)
    assert found.training_tokens == 9 * FULL
    assert found.training_seconds == pytest.approx(18.0)


def test_few_steps_have_no_rate_and_none_have_nothing(chosen: Candidate) -> None:
    few = taken(chosen, steps(1, 3), steps=3)
    assert (few.training_seconds, few.memory_bytes) == (None, 6 * GIB)
    assert measurement("a/b", chosen, result(steps=0), []) is None
    again = result(steps=10, resumed_from_step=10)
    assert measurement("a/b", chosen, again, steps(1, 10)) is None


def test_calibration_never_rests_on_itself(chosen: Candidate) -> None:
    """A run of a plan that was calibrated already measures what it would have without."""
    plain = taken(chosen, steps(1, 10))
    device, strategy = chosen.offer.device, chosen.spec.strategy
    again = chosen
    for count in (1, 2, 3):
        known = calibrate([plain] * count)
        shifted = calibrated(chosen.estimate, known[device.name, strategy], device, strategy)
        assert shifted.memory_allocated_bytes > chosen.estimate.memory_allocated_bytes
        again = msgspec.structs.replace(chosen, estimate=shifted)
        assert taken(again, steps(1, 10)) == plain
    cpu = on_cpu(chosen)
    plain = taken(cpu, steps(1, 10), memory_metric=RESIDENT, peak_memory_bytes=7 * GIB)
    known = calibrate([plain])[plain.card, strategy]
    shifted = calibrated(cpu.estimate, known, cpu.offer.device, strategy)
    again = msgspec.structs.replace(cpu, estimate=shifted)
    assert shifted.memory_expected_bytes > cpu.estimate.memory_expected_bytes
    found = taken(again, steps(1, 10), memory_metric=RESIDENT, peak_memory_bytes=7 * GIB)
    assert found == plain
