"""The search for micro-batch and checkpointing, with the real estimate."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import JobSpec, Model, Strategy
from launcher.catalog.gpus import GPUS
from launcher.estimate import estimate
from launcher.estimate.shapes import shape_of
from launcher.planning.resolve import resolve
from launcher.planning.variants import Settled, settle
from launcher.types import Offer
from tests.unit.launcher.plans import DATA, JOB, cloud

SMALL, _ = shape_of(Model(id="Qwen/Qwen2.5-1.5B"))
ROWS = msgspec.structs.replace(DATA, train_rows=20_000, train_characters=160_000_000)


def job_with(**train: Any) -> JobSpec:
    return msgspec.structs.replace(JOB, train=msgspec.structs.replace(JOB.train, **train))


def settled(offer: Offer, job: JobSpec = JOB, strategy: Strategy = "lora") -> Settled:
    spec = resolve(job, strategy, offer, "r")
    assert not isinstance(spec, str)
    usable = offer.device.usable_bytes
    return settle(spec, job, usable, lambda one: estimate(one, SMALL, ROWS, offer))


def taken(found: Settled) -> tuple[int, bool]:
    train = found.taken.spec.train
    return train.micro_batch, train.activation_checkpointing


def test_a_large_card_keeps_its_activations_and_a_small_one_computes_them_again() -> None:
    assert taken(settled(cloud("A100-80GB", 1.8))) == (1, False)
    assert taken(settled(cloud("RTX3060", 0.1))) == (1, True)


def test_short_rows_go_together_where_launching_kernels_takes_the_time() -> None:
    short = job_with(seq_len=128, packing=False)
    rows, checkpointing = taken(settled(cloud("A100-80GB", 1.8), short))
    assert rows > 4
    assert not checkpointing


def test_what_the_recipe_says_stays() -> None:
    asked = job_with(micro_batch=2, activation_checkpointing=True)
    assert taken(settled(cloud("A100-80GB", 1.8), asked)) == (2, True)
    halfway = job_with(micro_batch=2)
    assert taken(settled(cloud("A100-80GB", 1.8), halfway)) == (2, False)


def test_as_many_answers_at_once_as_fit() -> None:
    long = msgspec.structs.replace(ROWS, longest_characters=32_000)
    job = job_with(seq_len=8192)

    def answers(card: str, asked: JobSpec) -> int:
        offer = cloud(card, 1.0)
        spec = resolve(asked, "lora", offer, "r")
        assert not isinstance(spec, str)
        usable = offer.device.usable_bytes
        found = settle(spec, asked, usable, lambda one: estimate(one, SMALL, long, offer))
        assert found.taken.estimate.memory_upper_bytes <= usable
        return found.taken.spec.eval.batch

    assert answers("A100-80GB", job) == 16
    assert 1 < answers("RTX3060", job) < 16
    four = msgspec.structs.replace(job, eval=msgspec.structs.replace(job.eval, batch=4))
    assert answers("A100-80GB", four) == 4


def test_a_batch_of_any_size_is_searched_in_no_time() -> None:
    rows, _ = taken(settled(cloud("A100-80GB", 1.8), job_with(effective_batch=2**40)))
    assert 1 <= rows <= 256


def test_where_nothing_fits_the_smallest_is_shown() -> None:
    job = job_with(seq_len=32_768)
    found = settled(cloud("T4", 0.5), job)
    assert taken(found) == (1, True)
    assert found.least_bytes == found.taken.estimate.memory_upper_bytes
    assert found.least_bytes > cloud("T4", 0.5).device.usable_bytes


@given(
    card=st.sampled_from([card for card in GPUS if (card.compute_capability or (0,)) >= (7, 5)]),
    seq_len=st.sampled_from([64, 256, 1024, 4096]),
    effective=st.sampled_from([1, 6, 16, 30]),
    packing=st.booleans(),
    strategy=st.sampled_from(["lora", "qlora"]),
)
def test_the_taken_fits_divides_the_batch_and_is_as_fast_as_any(
    card, seq_len, effective, packing, strategy
) -> None:
    offer = cloud(card.name, 1.0)
    job = job_with(seq_len=seq_len, effective_batch=effective, packing=packing)
    found = settled(offer, job, strategy)
    rows, _ = taken(found)
    assert effective % rows == 0
    fits = found.taken.estimate.memory_upper_bytes <= offer.device.usable_bytes
    assert fits == (found.least_bytes <= offer.device.usable_bytes)
    for other in (one for one in range(1, effective + 1) if effective % one == 0):
        for checkpointing in (True, False):
            asked = job_with(
                seq_len=seq_len,
                effective_batch=effective,
                packing=packing,
                micro_batch=other,
                activation_checkpointing=checkpointing,
            )
            rival = settled(offer, asked, strategy).taken.estimate
            assert rival.memory_upper_bytes >= found.least_bytes
            if rival.memory_upper_bytes <= offer.device.usable_bytes:
                assert found.taken.estimate.hours_expected <= rival.hours_expected * 1.02


def test_rows_of_unlike_length_do_not_go_together() -> None:
    offer = cloud("A100-80GB", 1.8)
    unlike = msgspec.structs.replace(
        ROWS, train_rows=20_000, train_characters=20_000 * 1640, row_characters=(80,) * 9 + (8000,)
    )
    alike = msgspec.structs.replace(unlike, row_characters=(1640,) * 10)
    spec = resolve(job_with(packing=False), "qlora", offer, "r")
    assert not isinstance(spec, str)
    taken_rows = [
        settle(
            spec,
            job_with(packing=False),
            offer.device.usable_bytes,
            lambda one, data=data: estimate(one, SMALL, data, offer),
        ).taken.spec.train.micro_batch
        for data in (unlike, alike)
    ]
    assert taken_rows[0] < taken_rows[1]
