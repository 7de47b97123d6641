import pytest

from launcher.catalog.gpus import ALIASES, GPUS, cards_called, find, gpu, require_cards
from launcher.errors import BadInput
from launcher.types import MIB


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("rtx-4080 super", "RTX4080SUPER"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA RTX A6000", "A6000"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_spellings_of_drivers_and_providers(spelling, name):
    assert gpu(spelling).name == name


@pytest.mark.parametrize(
    "other", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "A100", ""]
)
def test_a_card_of_another_name_is_not_found(other):
    assert find(other) is None


def test_a_family_is_all_its_sizes():
    assert [c.name for c in cards_called("a100")] == ["A100-40GB", "A100-80GB"]


def test_a_family_is_no_single_card():
    with pytest.raises(BadInput, match="A100-40GB or A100-80GB"):
        gpu("A100")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BadInput, match="RTX4090"):
        require_cards("RTX4099")


def test_usable_memory_of_the_cards_that_aws_lists():
    assert gpu("A10G").usable_bytes // MIB == gpu("L4").usable_bytes // MIB == 22_888
    assert gpu("L40S").usable_bytes // MIB == 45_776


@pytest.mark.parametrize("card", GPUS, ids=lambda c: c.name)
def test_every_row_is_consistent(card):
    assert 0 < card.usable_bytes < card.total_mib * MIB
    # the driver's total is the nominal size, less ECC's sixteenth at most
    assert 0.93 < card.total_mib / (card.nominal_gb * 1024) < 1.03
    # between the slowest and the fastest of the table, and memory keeps up within an order
    assert 20 < card.dense_16bit_tflops < 2500
    assert 0.05 < card.dense_16bit_tflops / card.bandwidth_gb_s < 0.5
    assert card.source


# Multiprocessors, boost clock in MHz, and 16-bit operations that one does in a clock with FP32
# accumulation: the product of the three is what the data sheets round.
ARITHMETIC = {
    "T4": (40, 1590, 1024), "V100-16GB": (80, 1530, 1024), "RTX3060": (28, 1777, 512),
    "RTX3070": (46, 1725, 512), "RTX3080": (68, 1710, 512), "RTX3090": (82, 1695, 512),
    "RTX4060": (24, 2460, 512), "RTX4060Ti": (34, 2535, 512), "RTX4070": (46, 2475, 512),
    "RTX4070Ti": (60, 2610, 512), "RTX4080": (76, 2505, 512), "RTX4090": (128, 2520, 512),
    "RTX5060": (30, 2497, 512), "RTX5060Ti": (36, 2572, 512), "RTX5070": (48, 2512, 512),
    "RTX5070Ti": (70, 2452, 512), "RTX5080": (84, 2617, 512), "RTX5090": (170, 2407, 512),
    "A10": (72, 1695, 1024), "A40": (84, 1740, 1024), "A6000": (84, 1800, 1024),
    "L4": (58, 2040, 1024), "RTXPRO6000-WK": (188, 2617, 1024),
    "A100-40GB": (108, 1410, 2048), "H100-PCIe": (114, 1620, 4096), "H100-SXM": (132, 1830, 4096),
}  # fmt: skip


@pytest.mark.parametrize("name", ARITHMETIC)
def test_rates_follow_from_multiprocessors_and_clocks(name):
    multiprocessors, mhz, operations = ARITHMETIC[name]
    tflops = multiprocessors * mhz * operations / 1e6
    assert gpu(name).dense_16bit_tflops == pytest.approx(tflops, rel=0.004)


@pytest.mark.parametrize(
    ("name", "tops"),
    [
        ("T4", 130),
        ("V100-16GB", 62.8),
        ("A10", 250),
        ("A10G", 140),
        ("A40", 299.3),
        ("A100-80GB", 624),
        ("RTX3080", 238),
        ("RTX3090", 284),
        ("L4", 242),
        ("L40S", 733),
        ("RTX4090", 660.6),
        ("RTX5090", 838),
        ("H100-SXM", 1979),
        ("B200", 4500),
        ("MI300X", 2614.9),
    ],
)
def test_int8_rates_as_the_data_sheets_print_them(name, tops):
    assert gpu(name).dense_int8_tops == pytest.approx(tops, rel=0.015)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("T4", 8.1),
        ("V100-16GB", 15.7),
        ("A10", 31.2),
        ("A10G", 35),
        ("A40", 37.4),
        ("A6000", 38.7),
        ("A100-80GB", 19.5),
        ("RTX3090", 35.6),
        ("L4", 30.3),
        ("L40S", 91.6),
        ("RTX4090", 82.6),
        ("RTX5090", 104.8),
        ("RTXPRO6000", 120),
        ("RTXPRO6000-WK", 125),
        ("H100-PCIe", 51),
        ("H100-SXM", 67),
        ("H200", 67),
        ("B200", 75),
        ("MI300X", 163.4),
    ],
)
def test_fp32_rates_as_the_data_sheets_print_them(name, tflops):
    assert gpu(name).fp32_tflops == pytest.approx(tflops, rel=0.05)


@pytest.mark.parametrize("card", GPUS, ids=lambda c: c.name)
def test_every_cuda_card_has_a_first_driver(card):
    if card.compute_capability is None:
        assert card.minimum_driver == ""
    else:
        assert 384 <= int(card.minimum_driver.split(".")[0]) <= 570


def test_a_newer_card_needs_no_older_driver():
    drivers = [
        tuple(map(int, card.minimum_driver.split(".")))
        for card in sorted(GPUS, key=lambda c: c.compute_capability or (0, 0))
        if card.compute_capability is not None
    ]
    assert drivers == sorted(drivers)


def test_names_and_aliases_are_unique_and_known():
    names = [c.name for c in GPUS]
    assert len(names) == len(set(names))
    for name, aliases in ALIASES.items():
        assert {find(a).name for a in aliases} == {name}
