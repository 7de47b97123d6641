import pytest

from launcher.errors import BadInput
from launcher.planning.selection import (
    in_regions,
    left_out,
    names_gpu,
    on_providers,
    require_known,
)
from launcher.types import Budget
from tests.unit.launcher.plans import cloud, local

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


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Budget(gpu="A100"), "left out by --on or --gpu"),
        (Budget(gpu="A100:2"), "no offer has 2 × A100"),
        (Budget(gpu="A100:2", providers=("RunPod",)), "no offer on RunPod has 2 × A100"),
        (Budget(gpu="L4", providers=("aws", "runpod")), "no offer on AWS or RunPod has L4"),
        (Budget(providers=("aws",)), "no offer on AWS"),
    ],
)
def test_what_nobody_has_is_not_said_to_be_left_out(asked: Budget, why: str):
    assert left_out([A100, local("cpu", 8)], asked) == why


WEST = cloud("L4", 0.8, "aws", region="us-west-2")
SOMEWHERE = cloud("L4", 0.8, "aws", region="us-*")
SEVERAL = cloud("L4", 0.8, "runpod", regions=("IN", "US"))


@pytest.mark.parametrize(
    ("names", "offer", "taken"),
    [
        ((), WEST, True),
        (("us-west-2",), WEST, True),
        (("US-West-2",), WEST, True),
        (("us-*",), WEST, True),
        (("eu-*", "us-west-2"), WEST, True),
        (("us-east-1",), WEST, False),
        (("us-west-2",), SOMEWHERE, True),
        (("eu-west-1",), SOMEWHERE, False),
        (("in",), SEVERAL, True),
        (("DE",), SEVERAL, False),
        (("us-west-2",), A100, True),  # its list does not say where: it may be there
        (("us-west-2",), local("cpu", 8), False),
    ],
)
def test_regions(names, offer, taken):
    assert in_regions(names, offer) is taken


@pytest.mark.parametrize("name", ["us-west-2", "us-*", "us-east-2", "IN"])
def test_a_region_that_a_list_names_or_may_mean_is_known(name):
    require_known([WEST, SOMEWHERE, SEVERAL], (), None, (name,))


@pytest.mark.parametrize(
    ("name", "near"), [("eu-wset-2", "us-west-2"), ("mars", "launch offers --all")]
)
def test_an_unknown_region_gets_the_nearest(name, near):
    with pytest.raises(BadInput, match=near):
        require_known([WEST, SOMEWHERE, SEVERAL, A100], (), None, (name,))


def test_where_a_catalog_names_every_region_a_pattern_knows_no_others():
    listed = cloud("L4", 0.8, "aws", region="us-east-1", origin="SkyPilot")
    with pytest.raises(BadInput, match="nearest: us-east-1"):
        require_known([SOMEWHERE, listed], (), None, ("us-esat-1",))


def test_a_provider_without_prices_says_how_it_is_enabled():
    with pytest.raises(BadInput, match=r"--refresh(.|\n)*~/.slurm/config"):
        require_known([A100], ("slurm",), None)


@pytest.mark.parametrize(("providers", "gpu"), [(("lamda",), None), ((), "H1000"), ((), "A10:0")])
def test_what_nobody_knows_is_bad_input(providers, gpu):
    with pytest.raises(BadInput):
        require_known([A100], providers, gpu)
