import re

import msgspec
import pytest

from jobs.spec import JobSpec, Lora, Model, ResolvedSpec
from launcher.errors import NothingFits
from launcher.estimate import estimate
from launcher.estimate.shapes import ModelShape, shape_of
from launcher.planning.ways_out import ways_out
from launcher.running.runs import require_choice
from launcher.types import Budget, DataFacts, Estimate, Offer
from tests.unit.launcher.plans import JOB, an_estimate, cloud, dollars, local, planned

TEN = Budget(max_cost_microusd=dollars(10))


def told(offers: list[Offer], budget: Budget, job: JobSpec = JOB, **changes: object) -> list[str]:
    """The ways out of this plan; each is made of plans of the same offers."""

    def replan(other: JobSpec, limits: Budget):
        return planned(offers, limits, other, **changes)

    return list(ways_out(planned(offers, budget, job, **changes), replan))


def test_nothing_to_say_when_something_is_chosen():
    assert told([cloud("RTX4090", 0.74)], TEN) == []


def test_the_cap_and_the_hours_that_would_do_cheapest_first():
    offers = [cloud("A100-80GB", 16.0), cloud("RTX4090", 9.0), local("cpu", 20)]
    assert told(offers, Budget(max_cost_microusd=dollars(10), max_hours=8)) == [
        "--max-hours 660 allows this machine's CPU (660 h 00 m worst)",
        "--max-cost 17 allows A100-80GB on RunPod (worst $16.93)",
        "--max-cost 18 allows RTX4090 on RunPod (worst $17.98)",
    ]


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        # $16.93 and $17.98 at worst, after 63 m 28 s and 2 h; the CPU costs nothing in its 660 h
        (Budget(max_cost_microusd=dollars(17), max_hours=1), "660 h 00 m worst > --max-hours 1"),
        (
            Budget(max_cost_microusd=dollars(17), max_hours=1, providers=("runpod",)),
            "63 m 28 s worst > --max-hours 1",
        ),
        (Budget(max_cost_microusd=dollars(10), providers=("runpod",)), "worst $16.93 > cap $10"),
        (Budget(providers=("runpod",)), "no --max-cost given; worst $16.93"),
    ],
)
def test_why_nothing_fits_is_what_is_against_the_nearest(budget: Budget, why: str) -> None:
    made = planned([cloud("A100-80GB", 16.0), cloud("RTX4090", 9.0), local("cpu", 20)], budget)
    with pytest.raises(NothingFits, match=f"^nothing fits: {re.escape(why)}"):
        require_choice(made)


def test_where_no_limit_would_help_it_is_what_is_against_the_first():
    made = planned([cloud("RTX3060", 0.2)], TEN, estimator=_by_length(1000.0))
    with pytest.raises(NothingFits, match=r"^nothing fits: needs 1000\.0 GiB"):
        require_choice(made)
    with pytest.raises(NothingFits, match=r"^nothing fits: no offer is left"):
        require_choice(planned([], TEN))


def test_electricity_needs_a_cap_too():
    ways = told([local("RTX4090", 23)], Budget(local_microusd_per_hour=100_000))
    assert ways == ["--max-cost 0.2 allows this machine's RTX4090 (worst $0.20)"]


def test_without_a_cap_the_one_that_is_needed():
    ways = told([cloud("RTX4090", 0.74)], Budget())
    assert ways == ["--max-cost 1.5 allows RTX4090 on RunPod (worst $1.48)"]


@pytest.mark.parametrize("usd_per_hour", [0.07, 0.74, 5.123456, 33.333333])
def test_following_the_advice_chooses(usd_per_hour):
    offer = cloud("RTX4090", usd_per_hour)
    (way,) = told([offer], Budget(max_cost_microusd=0))
    cap = float(way.split()[1])
    assert planned([offer], Budget(max_cost_microusd=dollars(cap))).chosen is not None


def test_another_strategy_is_a_way_out_where_it_fits():
    job = msgspec.structs.replace(JOB, strategy="full")
    assert told([cloud("A100-80GB", 1.79)], TEN, job) == [
        "--strategy qlora instead of full fits A100-80GB on RunPod (worst $1.90)"
    ]


def test_where_nothing_helps_the_need_is_said():
    job = msgspec.structs.replace(JOB, strategy="full")
    assert told([cloud("RTX3060", 0.2)], Budget(), job, estimator=_by_length(1000.0)) == [
        "needs 1000.0 GiB at least, and the largest has 11.2"
    ]


def test_a_shorter_row_that_fits_is_found_and_no_shorter_than_it_must_be():
    card = local("RTX4080", 15)
    (way,) = told([card], TEN, estimator=_by_length(40.0))  # 40 GiB at 2,048 tokens
    assert way == "--set train.seq_len=512 fits this machine's RTX4080 (2 h 00 m worst)"


def test_what_the_recipe_holds_up_is_named():
    train = msgspec.structs.replace(JOB.train, micro_batch=8)
    job = msgspec.structs.replace(JOB, train=train)

    def by_rows(spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer) -> Estimate:
        return an_estimate(4.0 * spec.train.micro_batch, (0.5, 1.0, 2.0))

    assert told([local("RTX4080", 15)], TEN, job, estimator=by_rows) == [
        "--set train.micro_batch=auto fits this machine's RTX4080 (2 h 00 m worst)"
    ]


def test_filters_that_leave_nothing_are_named():
    budget = msgspec.structs.replace(TEN, providers=("aws",))
    assert told([cloud("RTX4090", 0.74)], budget) == [
        "without --on it fits RTX4090 on RunPod (worst $1.48)"
    ]


def test_filters_and_a_missing_cap_are_named_together():
    offers = [cloud("RTX4090", 0.74), local("RTX4060", 7.0)]
    assert told(offers, Budget(providers=("local",))) == [
        "without --on, --max-cost 1.5 allows RTX4090 on RunPod (worst $1.48)"
    ]


def test_spot_is_a_way_out_where_it_is_cheap_enough():
    offers = [cloud("A10G", 9.0), cloud("A10G", 0.4, "aws", spot=True, instance="spot")]
    first, *_ = told(offers, TEN)
    assert first.startswith("--spot allows A10G on AWS spot (worst $")


def _by_length(gib_at_2048: float):
    def estimated(spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer) -> Estimate:
        return an_estimate(gib_at_2048 * spec.train.seq_len / 2048, (0.5, 1.0, 2.0))

    return estimated


def test_half_a_billion_fits_a_small_machine_by_its_heap_and_that_is_said() -> None:
    """The bar: r 4, 256 tokens, batch 1, of 4.5 GB; 1.5 B must not."""
    machine = msgspec.structs.replace(
        local("cpu", 4.5),
        device=msgspec.structs.replace(local("cpu", 4.5).device, usable_bytes=4_500_000_000),
    )
    train = msgspec.structs.replace(JOB.train, seq_len=256, effective_batch=1, packing=False)
    lora, evaluation = Lora(r=4), msgspec.structs.replace(JOB.eval, batch=1)
    job = msgspec.structs.replace(JOB, strategy="lora", train=train, lora=lora, eval=evaluation)

    def ways(model: str) -> list[str]:
        shape, _ = shape_of(Model(id=model))
        return told([machine], TEN, job, shape=shape, estimator=estimate)

    (way, *others) = ways("Qwen/Qwen2.5-0.5B")
    assert way.startswith("--set train.lean_heap=true fits this machine's CPU")
    assert not any("seq_len" in other for other in others)
    assert not any("lean_heap" in other for other in ways("Qwen/Qwen2.5-1.5B"))
