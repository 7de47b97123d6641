import msgspec
import pytest

from launcher.display.comparison import comparison_text
from launcher.planning.unpriced import unpriced
from launcher.types import Budget, Offer, Plan
from tests.unit.launcher.plans import JOB, TEN, cloud, dollars, local, planned


def plans(*offers: Offer, budget: Budget = TEN) -> list[Plan]:
    offers = (*offers, *unpriced(offers, budget, "2026-11-22"))
    return [
        planned(list(offers), budget, job=msgspec.structs.replace(JOB, strategy=strategy))
        for strategy in ("qlora", "lora", "full")
    ]


def test_each_strategy_beside_the_first_and_what_none_can_hold() -> None:
    text = comparison_text(plans(cloud("RTX4090", 0.74), cloud("A10G", 1.0), cloud("L4", 0.1)))
    qlora, lora, full, note, *_ = (line.split() for line in text.splitlines()[2:])
    assert qlora[:1] + lora[:1] + full[:1] == ["qlora", "lora", "full"]
    assert "+122%" in lora  # 20 GiB against 9
    assert "nothing" in full
    assert "none" in full
    assert note[:3] == ["full:", "not", "even"]
    assert "145.0" in note


def test_a_strategy_that_no_device_can_run_says_why() -> None:
    mac = local("cpu", 64)
    mac = msgspec.structs.replace(
        mac, device=msgspec.structs.replace(mac.device, kind="mps", dense_16bit_tflops=2.6)
    )
    text = comparison_text(plans(mac))
    assert "qlora: 4-bit needs bitsandbytes" in text
    assert text.splitlines()[2].startswith("lora")


def test_what_costs_nothing_is_not_compared_by_percent() -> None:
    text = comparison_text(plans(local("cpu", 64)))
    assert "inf" not in text
    assert "nan" not in text


def test_a_warning_stands_once_below_the_table() -> None:
    warned = [
        msgspec.structs.replace(plan, warnings=("the price is old", *more))
        for plan, more in zip(plans(cloud("RTX4090", 0.74)), ((), ("of lora",), ()), strict=True)
    ]
    lines = comparison_text(warned).splitlines()
    assert lines[-2:] == ["WARNING the price is old", "WARNING of lora"]


CARDS = (cloud("RTX4090", 0.74), cloud("RTXPRO6000", 2.0), cloud("A40", 0.4))


@pytest.mark.parametrize(
    ("limit", "miss"),
    [
        (Budget(max_cost_microusd=dollars(0.1)), "A40: worst $0.89 > cap $0.10"),
        (Budget(max_hours=0.1), "RTXPRO6000: 39 m 36 s worst > --max-hours 0.1"),
    ],
)
def test_the_nearest_miss_is_named_and_what_fits_is_of_memory(limit: Budget, miss: str) -> None:
    text = comparison_text(plans(*CARDS, budget=limit))
    assert f"lora: not even {miss}" in text
    (lora,) = (line for line in text.splitlines() if line.startswith("lora "))
    assert "nothing" not in lora
    assert all(card in lora for card in ("RTX4090", "RTXPRO6000", "A40"))


def test_a_card_that_nobody_offers_has_a_time_and_no_cost() -> None:
    text = comparison_text(plans(local("cpu", 64), *CARDS, budget=Budget(gpu="RTX3090:2")))
    qlora, lora, full, *notes = text.splitlines()[2:]
    assert "nobody 2× RTX3090" in qlora
    assert "nobody 2× RTX3090" in lora
    assert "nothing" in full
    assert "$" not in text
    assert "A Chip" not in text
    assert notes[0] == "qlora: 2× RTX3090: holds it; no offer has 2 × RTX3090, so it has no price"
