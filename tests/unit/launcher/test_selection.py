import pytest

from launcher.errors import BadInput
from launcher.selection import names_gpu, on_providers, require_known
from tests.unit.launcher.planning import cloud, local

A100 = cloud("A100-80GB", 1.79)


@pytest.mark.parametrize(
    ("text", "offer", "means"),
    [
        ("A100", A100, True),
        ("a100-80gb", A100, True),
        ("A100:1", A100, True),
        ("A100:8", A100, False),
        ("A100-40GB", A100, False),
        ("cpu", local("cpu", 8), True),
        ("cpu", A100, False),
    ],
)
def test_a_name_a_family_and_a_count(text, offer, means):
    assert names_gpu(text, offer) is means


def test_a_local_card_goes_by_its_drivers_name():
    offer = local("RTX4080", 8)
    require_known([offer], (), "RTX4080")
    assert names_gpu("NVIDIA GeForce RTX 4080", offer)


def test_providers_are_named_in_any_case():
    assert on_providers((), A100)
    assert on_providers(("RunPod",), A100)
    assert not on_providers(("aws", "gcp"), A100)


@pytest.mark.parametrize(("providers", "gpu"), [(("lamda",), None), ((), "H1000"), ((), "A10:0")])
def test_what_nobody_knows_is_bad_input(providers, gpu):
    with pytest.raises(BadInput):
        require_known([A100], providers, gpu)
