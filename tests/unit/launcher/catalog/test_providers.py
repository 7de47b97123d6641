import pytest

from launcher.catalog.gpus import find
from launcher.catalog.providers import CLUSTERS, DISPLAY_NAMES, LOCAL, PROVIDERS, display_name


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda p: p.id)
def test_every_row_is_consistent(provider):
    assert provider.source
    assert 1 <= provider.billing_seconds <= 3600
    assert 0 <= provider.billing_minimum_seconds <= 3600
    assert 0 <= provider.microusd_per_gib_disk_hour < 1000  # under $0.73 per GB and month
    assert 0 <= provider.microusd_per_gib_egress < 200_000
    low, expected, high = provider.provision_seconds
    assert 0 < low < expected < high
    fast, usual, slow = provider.download_mb_s
    assert fast > usual > slow > 0
    assert all(find(card) is not None for card in provider.accelerators)


def test_every_provider_has_a_name_for_people():
    assert set(PROVIDERS) == set(DISPLAY_NAMES)
    assert set(CLUSTERS) < set(PROVIDERS)
    assert display_name("nobody") == "nobody"
    assert LOCAL not in PROVIDERS
