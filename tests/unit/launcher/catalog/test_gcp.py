from launcher.catalog import skypilot
from launcher.catalog.gcp import built_in
from tests.unit.launcher.catalog.real_rows import prices

HEAD = (
    "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,"
    "AvailabilityZone,Price,SpotPrice"
)


def of(*lines: str):
    return skypilot.read("gcp", "\n".join([HEAD, *lines]))


def test_machine_and_gpus_are_one_price():
    (price,) = [p for p in prices("gcp") if p.region == "us-east4" and not p.spot]
    assert (price.instance, price.count) == ("a3-highgpu-1g", 1)
    assert price.high_microusd == 1_182_510 + 9_796_550


def test_spot_is_the_sum_of_spots():
    (price,) = [p for p in prices("gcp") if p.region == "us-east5" and p.spot]
    assert (price.instance, price.count) == ("a2-ultragpu-8g", 8)
    assert price.high_microusd == 2_495_440 + 10_684_800


def test_a_reservations_price_leaves_the_spot_offer():
    found = [p for p in prices("gcp") if p.region == "us-central1"]
    assert [(p.spot, p.high_microusd) for p in found] == [(True, 361_170 + 2_992_600)]


def test_a_machine_or_gpu_without_a_price_makes_no_offer():
    found, dropped = of(
        "a3-highgpu-1g,26.0,234.0,,,,r,r-a,,0.3",
        ",,,H100,1,{},r,r-a,9.8,",
    )
    assert found == ()
    assert [entry.reason for entry in dropped] == ["no price"]


def test_t4_takes_the_cheapest_n1_machine_that_skypilot_would():
    found, _ = of(
        "n1-standard-4,4.0,15.0,,,,r,r-a,0.19,0.04",  # 15 GiB where SkyPilot asks for 16
        "n1-highmem-4,4.0,26.0,,,,r,r-a,0.23,0.05",
        "n1-highmem-8,8.0,52.0,,,,r,r-a,0.47,0.10",
        "n1-highmem-16,16.0,104.0,,,,r,r-b,0.10,0.02",  # another zone
        ",,,T4,1,{'SizeInMiB': 16384},r,r-a,0.35,0.11",
        ",,,T4,2,{'SizeInMiB': 16384},r,r-a,0.70,0.22",
    )
    assert {(p.instance, p.card, p.count, p.spot): p.high_microusd for p in found} == {
        ("n1-highmem-4+T4:1", "T4", 1, False): 580_000,
        ("n1-highmem-4+T4:1", "T4", 1, True): 160_000,
        ("n1-highmem-8+T4:2", "T4", 2, False): 1_170_000,
        ("n1-highmem-8+T4:2", "T4", 2, True): 320_000,
    }


def test_every_machine_that_carries_the_gpus_is_offered():
    found, _ = of(
        "g2-standard-4,4.0,16.0,,,,r,r-a,0.15,",
        "g2-standard-16,16.0,64.0,,,,r,r-a,0.58,",
        "g2-standard-24,24.0,96.0,,,,r,r-a,0.87,",
        ",,,L4,1,{'SizeInMiB': 24576},r,r-a,0.56,",
    )
    assert {p.instance: p.high_microusd for p in found} == {
        "g2-standard-4": 710_000,
        "g2-standard-16": 1_140_000,
    }


def test_machine_types():
    assert built_in("a2-megagpu-16g") == ("A100", 16)
    assert built_in("g2-standard-24") == ("L4", 2)
    assert built_in("g4-standard-384") == ("RTXPRO6000", 8)
    assert built_in("g2-standard-5") is None
    assert built_in("a3-edgegpu-8g-nolssd") is None
