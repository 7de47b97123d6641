import msgspec

from launcher.display.comparison import comparison_text
from launcher.types import Plan
from tests.unit.launcher.plans import JOB, TEN, cloud, local, planned


def plans(*offers: object) -> list[Plan]:
    return [
        planned(list(offers), TEN, job=msgspec.structs.replace(JOB, strategy=strategy))
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
