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


def test_names_and_aliases_are_unique_and_known():
    names = [c.name for c in GPUS]
    assert len(names) == len(set(names))
    for name, aliases in ALIASES.items():
        assert {find(a).name for a in aliases} == {name}
