"""SkyPilot's own optimizer as a second judge: where only the price counts, the same offer.

Both read the same catalogs of real rows, in the same minute; every job takes an hour on any card
and nothing but the machine is billed. SkyPilot runs in a process of its own, without a network.
"""

import random

import msgspec
import pytest

from launcher.catalog import skypilot
from launcher.planning.resolve import CUDA_CAPABILITY
from launcher.types import MICROUSD, Budget, Estimate, Offer
from tests.integration.skypilot import OPTIMIZE, ask, name_cards
from tests.unit.launcher.catalog.real_rows import place
from tests.unit.launcher.plans import an_estimate, planned

CLOUDS = ("aws", "azure", "gcp", "lambda", "nebius", "runpod")


def one_hour(spec: object, shape: object, data: object, offer: Offer) -> Estimate:
    return an_estimate(1.0, (1.0, 1.0, 1.0))


def bare(offer: Offer) -> Offer:
    """The machine alone is billed, and nobody takes it back."""
    return msgspec.structs.replace(
        offer,
        billing_seconds=1,
        billing_minimum_seconds=0,
        microusd_per_gib_disk_hour=0,
        microusd_per_gib_egress=0,
        interruptions_per_hour=(0.0, 0.0, 0.0) if offer.spot else None,
    )


def looks_cheaper_there(offer: Offer) -> bool:
    """SkyPilot looks for the cheapest zone, where we plan with the dearest; and it counts one of
    AWS's local zones, at $0.0631 for spot."""
    return "by zone" in offer.note or (offer.instance == "g4dn.xlarge" and offer.spot)


def runs_our_cuda(offer: Offer) -> bool:
    """SkyPilot knows nothing of what a job needs, and would take a V100."""
    capability = offer.device.compute_capability
    return capability is not None and capability >= CUDA_CAPABILITY


def test_the_same_offer_as_skypilot_s_optimizer(
    sky_python: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = place(tmp_path / "home", *CLOUDS)
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    listed = (o for o in skypilot.listing().offers if runs_our_cuda(o))
    offers = [bare(o) for o in listed if not looks_cheaper_there(o)]
    kinds = sorted({(o.provider, o.accelerator, o.count, o.spot) for o in offers})
    name_cards(home, kinds)
    drawn = random.Random(17)
    groups = [drawn.sample(range(len(kinds)), drawn.randint(2, 8)) for _ in range(40)]
    answers = ask(sky_python, home, OPTIMIZE, msgspec.json.encode(kinds).decode(), str(groups))
    budget = Budget(max_cost_microusd=1000 * MICROUSD, spot=True)
    for group, (cloud, held, spot, usd) in zip(groups, answers, strict=True):
        asked = {kinds[i] for i in group}
        mine = [o for o in offers if (o.provider, o.accelerator, o.count, o.spot) in asked]
        chosen = planned(mine, budget, estimator=one_hour).chosen
        assert chosen is not None
        offer = chosen.offer
        assert (offer.provider, {offer.accelerator: offer.count}, offer.spot) == (cloud, held, spot)
        assert chosen.expected_microusd / MICROUSD == pytest.approx(usd, abs=1e-6)
    assert len({(cloud, str(held), spot) for cloud, held, spot, _ in answers}) >= 8
