import re

import msgspec
import pytest

from jobs.spec import Model
from launcher.catalog.offers import embedded_offers
from launcher.errors import BadInput
from launcher.estimate import estimate
from launcher.estimate.shapes import shape_of
from launcher.types import Budget, Setting
from tests.unit.launcher.plans import (
    JOB,
    TEN,
    an_estimate,
    cloud,
    dollars,
    local,
    planned,
    reasons,
)

RTX4090 = cloud("RTX4090", 0.74)
replace = msgspec.structs.replace

# What each instance of the embedded catalog gets for a job of 9 GiB, 165 TFLOP/s-hours.
SEVEN_B_REASONS = {
    "1x_L40S_SECURE": (
        "chosen: worst $1.19 within the cap of $10; cheapest finished job of 14 that hold every "
        "limit"
    ),
    "1x_RTX4090_SECURE": "possible: $0.25 more than the chosen",
    "g5.xlarge": "possible: $1.90 more than the chosen",
    "gpu_1x_a100": "possible: $0.56 more than the chosen",
    "1x_A100-80GB_SECURE": "possible: $0.45 more than the chosen",
    "1x_RTX4090_COMMUNITY": "rejected: SkyPilot cannot provision community",
    "p4d.24xlarge": "rejected: worst $24.15 > cap $10",
    "cpu": "rejected: 660 h 00 m worst > --max-hours 8",
}


def test_the_7b_example_over_the_embedded_catalog():
    made = planned([local("cpu", 20), *embedded_offers()], TEN)
    told = {
        c.offer.instance: f"{c.verdict}: {c.reason}" for c in made.candidates if not c.offer.spot
    }
    assert {name: told[name] for name in SEVEN_B_REASONS} == SEVEN_B_REASONS
    spot = {c.reason for c in made.candidates if c.offer.spot}
    assert spot == {"spot is not allowed; --spot allows it"}


def test_chosen_first_then_possible_by_cost_then_rejected_in_groups():
    made = planned([local("cpu", 20), *embedded_offers()], TEN)
    order = [c.verdict for c in made.candidates]
    assert order == sorted(order, key=["chosen", "possible", "rejected"].index)
    possible = [c.expected_microusd for c in made.candidates if c.verdict == "possible"]
    assert possible == sorted(possible)
    kinds = [c.reason.split()[0] for c in made.candidates if c.verdict == "rejected"]
    groups = list(dict.fromkeys(kinds))
    assert [k for g in groups for k in kinds if k == g] == kinds


def test_auto_leaves_out_the_strategy_that_the_model_cannot_do():
    falcon = shape_of(Model(id="tiiuae/falcon-7b"))[0]
    made = planned([RTX4090], TEN, replace(JOB, strategy="auto"), shape=falcon)
    told = {c.spec.strategy if c.spec else "none": c.reason for c in made.candidates}
    assert told["lora"].startswith("worst $")
    assert told["none"] == ("qlora: transformers quantises no layer of falcon; --strategy lora")


def test_electricity_counts_and_is_held_against_the_cap():
    mine, rented = local("RTX4090", 23), cloud("H100-SXM", 0.60)
    card = planned([mine], Budget(max_cost_microusd=dollars(1), local_microusd_per_hour=135_000))
    assert card.chosen is not None
    assert (card.chosen.expected_microusd, card.chosen.worst_microusd) == (134_850, 269_700)
    assert card.chosen.reason.startswith("worst $0.27 within the cap of $1")
    (refused,) = planned([mine], replace(card.budget, max_cost_microusd=dollars(0.2))).candidates
    assert refused.reason == "worst $0.27 > cap $0.20"
    (refused,) = planned([mine], Budget(local_microusd_per_hour=135_000)).candidates
    assert (refused.verdict, refused.reason[:22]) == ("possible", "no --max-cost given; w")
    both = planned([mine, rented], card.budget)
    assert both.chosen is not None
    assert both.chosen.offer == rented


def test_dollars_per_job_not_per_hour():
    slow, fast = cloud("T4", 0.35), cloud("H100-SXM", 3.99)
    made = planned([slow, fast], TEN)
    assert made.chosen is not None
    assert made.chosen.offer.device.name == "H100-SXM"


def test_this_machine_wins_when_it_fits_and_holds_the_hours():
    made = planned([cloud("RTX4090", 0.74), local("RTX4080", 15)], TEN)
    assert made.chosen is not None
    assert made.chosen.offer.provider == "local"
    assert made.chosen.reason.startswith("costs $0 and ends within 3 h 23 m")


def test_a_card_in_use_is_refused_with_what_is_free():
    made = planned([local("RTX4090", 4)], TEN)
    assert reasons(made) == {"RTX4090": "rejected: needs 9.0 GiB, 4.0 free"}


@pytest.mark.parametrize(
    ("offer", "budget", "reason"),
    [
        (RTX4090, Budget(max_cost_microusd=dollars(0.05)), "worst $1.48 > cap $0.05"),
        (cloud("T4", 0.35), replace(TEN, max_hours=4), "5 h 04 m worst > --max-hours 4"),
        (cloud("RTX4060", 0.2), TEN, "needs 9.0 GiB, 7.5 usable"),
        (cloud("A10G", 0.4, spot=True), TEN, "spot is not allowed; --spot allows it"),
        (
            cloud("A10G", 0.4, spot=True, interruptions_per_hour=None),
            replace(TEN, spot=True),
            "how often RunPod takes spot machines back is not known",
        ),
        (cloud("A10G", 0.4, executor=None, note="cannot be had"), TEN, "cannot be had"),
    ],
)
def test_each_refusal_says_the_number_that_decided(offer, budget, reason):
    made = planned([offer], budget)
    assert made.chosen is None
    assert [c.reason for c in made.candidates] == [reason]


def test_an_image_runs_where_there_are_containers_and_not_on_this_machine():
    asked = replace(TEN, image="me/train:1")
    slurm = cloud("A10G", 0.1, "slurm", instance="lab/gpu")
    offers = [replace(RTX4090, capabilities=("containers",)), slurm]
    made = planned(offers, asked)
    assert [c.offer.image for c in made.candidates] == ["me/train:1", ""]
    assert made.candidates[1].reason == (
        "SkyPilot runs no image on Slurm unless it has Pyxis, which is not known; without --image, "
        "set-up installs"
    )
    here = planned([local("RTX4090", 23)], asked)
    assert here.chosen is not None
    assert here.warnings == (
        "me/train:1 is for machines that are rented: this one's job runs in the environment kept "
        "here",
    )
    assert planned([slurm], TEN).chosen is not None


def test_more_gpus_are_taken_where_the_hours_need_them():
    def shared(spec, shape, data, offer):
        hours = 16 / spec.processes
        return an_estimate(9.0, (hours, hours, hours))

    one, eight = cloud("A10G", 1.0), cloud("A10G", 9.0, count=8, instance="8x")
    for limit, instance in ((100, "1x_A10G_SECURE"), (4, "8x")):
        made = planned([one, eight], Budget(max_cost_microusd=dollars(99), max_hours=limit),
                       estimator=shared)  # fmt: skip
        assert made.chosen is not None
        assert made.chosen.offer.instance == instance
    assert made.chosen.spec is not None
    assert made.chosen.spec.processes == 8


@pytest.mark.parametrize(
    ("train", "gpus", "how"),
    [
        ({"effective_batch": 6}, 4, "6 cannot be shared out evenly among 4 GPUs"),
        ({"micro_batch": 8}, 4, "16 cannot be shared out evenly among 4 GPUs by 8 at a time"),
        ({"micro_batch": 3}, 1, "16 cannot be shared out evenly by 3 at a time"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_refused(train, gpus, how):
    job = replace(JOB, train=replace(JOB.train, **train))
    (candidate,) = planned([cloud("A10G", 8.0, count=gpus)], TEN, job).candidates
    assert candidate.reason == f"qlora: train.effective_batch {how}"


@pytest.mark.parametrize(
    ("card", "dtype", "reason"),
    [
        ("T4", "bf16", "bf16 needs compute capability 8.0, T4 has 7.5"),
        (
            *("V100-32GB", "auto"),
            "the training environment's CUDA 13.0 needs compute capability 7.5, V100-32GB has 7.0",
        ),
    ],
)
def test_a_refused_strategy_is_named(card, dtype, reason):
    job = msgspec.structs.replace(JOB, dtype=dtype)
    made = planned([cloud(card, 0.35)], TEN, job)
    assert made.candidates[0].reason == f"qlora: {reason}"
    assert made.candidates[0].spec is None


def test_without_a_cap_only_what_costs_nothing_is_chosen():
    paid, free = cloud("RTX4090", 0.74), local("cpu", 20)
    alone = planned([paid], Budget())
    assert reasons(alone) == {"1x_RTX4090_SECURE": "possible: no --max-cost given; worst $1.48"}
    assert alone.chosen is None
    both = planned([paid, free], Budget(max_hours=1000))
    assert both.chosen is not None
    assert both.chosen.offer.provider == "local"


def test_auto_takes_the_cheaper_finished_job():
    job = msgspec.structs.replace(JOB, strategy="auto")
    made = planned([cloud("RTX4090", 0.74), cloud("T4", 0.2)], TEN, job)
    strategies = [(c.offer.device.name, c.spec and c.spec.strategy) for c in made.candidates]
    assert set(strategies) == {
        ("RTX4090", "qlora"), ("RTX4090", "lora"), ("T4", "qlora"), ("T4", "lora"),
    }  # fmt: skip
    assert made.chosen is not None
    assert made.chosen.spec is not None
    assert made.chosen.expected_microusd == min(
        c.expected_microusd for c in made.candidates if c.verdict != "rejected"
    )


def test_an_old_price_is_said():
    made = planned([cloud("RTX4090", 0.74, as_of="2026-09-25", enabled=True)], TEN)
    assert made.warnings == (
        "the price of RunPod's RTX4090 is of 2026-09-25, 57 days old; check it before paying",
    )
    assert planned([cloud("RTX4090", 0.74, enabled=True)], TEN).warnings == ()


def test_an_old_price_may_have_risen_by_the_time_it_is_paid():
    def worst(as_of):
        offer = cloud("RTX4090", 0.74, as_of=as_of)
        (candidate,) = planned([offer], TEN).candidates
        return candidate.worst_microusd

    today, three_months, years = map(worst, ("2026-11-21", "2026-08-23", "2020-01-01"))
    assert three_months / today == pytest.approx(1.29, abs=0.001)
    assert years / today == pytest.approx(1.5, abs=0.001)


def test_an_old_cheap_price_does_not_hide_a_fresh_one():
    old = cloud("RTX4090", 0.60, as_of="2026-01-01", region="a")
    fresh = cloud("RTX4090", 0.62, region="b")
    made = planned([old, fresh], Budget(max_cost_microusd=dollars(1.3)))
    assert made.chosen is not None
    assert made.chosen.offer.region == "b"


def test_the_plan_does_not_hang_on_the_order_of_the_offers():
    small, _ = shape_of(Model(id="Qwen/Qwen2.5-7B"))
    found = [o for o in embedded_offers() if o.device.name in ("L40S", "A100-80GB", "L4")]
    plans = [
        planned(order, TEN, shape=small, estimator=estimate)
        for order in (found, found[::-1], sorted(found, key=lambda o: o.provider))
    ]
    taken = [
        {(c.offer.instance, c.offer.spot): (c.spec and c.spec.train, c.worst_microusd)
         for c in made.candidates}
        for made in plans
    ]  # fmt: skip
    assert taken[0] == taken[1] == taken[2]


def test_where_it_is_not_known_whether_one_may_rent_is_said():
    made = planned([cloud("RTX4090", 0.74)], TEN)
    assert made.warnings == (
        "whether you may rent from RunPod is not known; `launch offers --refresh` asks SkyPilot",
    )


def test_where_one_may_not_rent_is_never_chosen_and_says_how():
    (candidate,) = planned(
        [cloud("RTX4090", 0.74, enabled=False, enabled_as_of="2026-11-20")], TEN
    ).candidates
    assert candidate.verdict == "rejected"
    assert candidate.reason.startswith("not enabled on 2026-11-20: ")


def test_the_spot_price_is_taken_when_it_is_allowed():
    budget = msgspec.structs.replace(TEN, spot=True)
    made = planned([cloud("A10G", 1.0), cloud("A10G", 0.4, spot=True, instance="spot")], budget)
    assert made.chosen is not None
    assert made.chosen.offer.spot


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(providers=("runpodd",)), "did you mean runpod?"),
        (Budget(gpu="RTX4099"), "RTX4090"),
        (Budget(gpu="A100:x"), "whole number"),
    ],
)
def test_an_unknown_name_is_bad_input(budget, message):
    with pytest.raises(BadInput) as error:
        planned([cloud("RTX4090", 0.74)], budget)
    assert message in str(error.value)


def test_partitions_of_a_cluster_are_candidates_of_their_own():
    night, day = (
        cloud("RTX4090", usd, "slurm", instance=f"lab/{name}", region="lab")
        for name, usd in (("night", 0.2), ("day", 0.5))
    )
    made = planned([day, night], TEN)
    assert made.chosen.offer == night
    assert [c.offer for c in made.fallbacks] == [day]


def test_offers_of_one_kind_are_one_candidate_at_the_cheapest_price():
    prices = {"a": 900_000, "b": 500_000, "c": 700_000}
    zones = [replace(RTX4090, region=r, microusd_per_hour=usd) for r, usd in prices.items()]
    (candidate,) = planned(zones, TEN).candidates
    assert (candidate.offer.region, candidate.dearer) == ("b", 2)


@pytest.mark.parametrize("budget", [replace(TEN, providers=("aws",)), replace(TEN, gpu="A100")])
def test_what_is_not_asked_for_is_only_counted(budget):
    made = planned([RTX4090, cloud("RTX4090", 0.9)], budget)
    assert (made.candidates, made.left_out) == ((), 2)


def test_the_fallbacks_hold_the_cap_in_the_order_of_cost():
    found = [cloud(name, usd) for name, usd in (("RTX4090", 3), ("A100-80GB", 9), ("H100-SXM", 9))]
    made = planned(found, Budget(max_cost_microusd=dollars(10)))
    assert made.chosen is not None
    order = [made.chosen, *made.fallbacks]
    assert [c.expected_microusd for c in order] == sorted(c.expected_microusd for c in order)
    assert len(order) == 3
    dear = planned(found, Budget(max_cost_microusd=made.chosen.worst_microusd))
    assert dear.fallbacks == ()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "strategy defaults: budget.providers lamda: no such"),
        ("--on", "--on lamda: no such"),
        ("--set budget.providers=[lamda]", "--set budget.providers=[lamda]: lamda: no such"),
    ],
)
def test_who_asked_for_a_provider_that_there_is_not_is_said(source, said):
    settings = ()
    if source is not None:
        key, value = "budget.providers", "('lamda',)"
        settings = (Setting(key=key, value=value, source=source, instead_of="()"),)
    with pytest.raises(BadInput, match="^" + re.escape(said)):
        planned([RTX4090], Budget(providers=("lamda",)), settings=settings)
