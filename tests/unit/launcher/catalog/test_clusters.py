import msgspec
import pytest

from launcher import paths
from launcher.catalog import merge
from launcher.catalog.clusters import Asked, Share, keep, listing, offered
from launcher.catalog.priced import device
from launcher.catalog.providers import PROVIDERS
from launcher.types import GIB


def share(accelerator: str = "RTX4090", **changes: object) -> Share:
    known = Share(
        provider="slurm", cluster="lab", partition="gpu-a", accelerator=accelerator,
        count=1 if accelerator else 0, nodes=3, node_cpus=64.0, node_memory_gib=503.5,
        usd_per_hour=0.74, why_not="",
    )  # fmt: skip
    return msgspec.structs.replace(known, **changes)


def asked(*shares: Share) -> Asked:
    return Asked(asked_at="2026-11-21T10:00:00+00:00", skypilot="0.14.1", shares=shares)


def only(one: Share):
    listed = offered(asked(one))
    assert not listed.dropped
    (offer,) = listed.offers
    return offer


def test_gpus_of_a_node_at_their_owners_price():
    offer = only(share(count=4, usd_per_hour=2.96))
    assert (offer.provider, offer.instance, offer.region) == ("slurm", "lab/gpu-a", "lab")
    assert (offer.device, offer.count) == (device("RTX4090"), 4)
    assert offer.microusd_per_hour == 2_960_000
    assert (offer.as_of, offer.enabled, offer.enabled_as_of) == ("2026-11-21", True, "2026-11-21")
    assert (offer.executor, offer.accelerator, offer.spot) == ("skypilot", "RTX4090", False)
    assert offer.capabilities == PROVIDERS["slurm"].capabilities
    assert offer.provision_seconds == PROVIDERS["slurm"].provision_seconds
    assert (offer.billing_seconds, offer.microusd_per_gib_disk_hour) == (1, 0)
    assert "0.14.1" in offer.source
    assert offer.note == "3 nodes"


def test_a_node_without_gpus_is_taken_whole():
    offer = only(share("", usd_per_hour=0.0))
    assert (offer.device.kind, offer.device.cores) == ("cpu", 64)
    assert offer.device.usable_bytes == 503 * GIB
    assert (offer.count, offer.accelerator, offer.microusd_per_hour) == (1, "", 0)


def test_an_owner_who_set_no_price_is_said():
    assert "$0: its owner set no price" in only(share(usd_per_hour=0.0)).note


@pytest.mark.parametrize(
    ("provider", "cluster"), [("kubernetes", "gke_project_zone_a"), ("ssh", "rack/2")]
)
def test_a_cluster_without_partitions_goes_by_its_name(provider, cluster):
    offer = only(share(provider=provider, cluster=cluster, partition=""))
    assert (offer.instance, offer.region) == (cluster, cluster)


@pytest.mark.parametrize(
    ("spelled", "card", "doubt"),
    [
        ("A100-80GB", "A100-80GB", False),
        ("A100", "A100-40GB", True),  # SkyPilot means 40 GB by it, an admin may mean either
        ("V100", "V100-16GB", True),
        ("H100-80GB", "H100-PCIe", True),
        ("H100", "H100-PCIe", True),
        ("NVIDIA_GEFORCE_RTX_4090", "RTX4090", False),
    ],
)
def test_a_name_of_several_cards_is_planned_as_the_least(spelled, card, doubt):
    offer = only(share(spelled))
    assert offer.device.name == card
    assert offer.accelerator == spelled
    assert (f"planned as {card}" in offer.note) is doubt


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (share("A4000"), "GPU A4000 is not in the table"),
        (share(why_not="its nodes take no jobs"), "its nodes take no jobs"),
        (share("", node_memory_gib=0.0), "its nodes are listed with 64 CPUs and 0 GiB"),
    ],
)
def test_what_cannot_be_planned_is_dropped_with_its_reason(one, reason):
    listed = offered(asked(one, share()))
    assert len(listed.offers) == 1
    (dropped,) = listed.dropped
    assert (dropped.provider, dropped.instance, dropped.reason) == ("slurm", "lab/gpu-a", reason)
    assert dropped.gpu == (one.accelerator or "CPU")


def test_the_answer_is_kept_and_stands_beside_the_price_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    assert listing().offers == ()
    before = merge.offers("2026-11-21")
    keep(asked(share(count=1), share(count=2), share("A4000")))
    after = merge.offers("2026-11-21")
    assert after.offers == (*before.offers, *listing().offers)
    assert [o.count for o in listing().offers] == [1, 2]
    assert after.dropped == (*before.dropped, *listing().dropped)


def test_an_answer_of_another_form_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep(asked(share()))
    (paths.catalog_folder() / "clusters.json").write_text('{"shares": 3}')
    assert listing().offers == ()
