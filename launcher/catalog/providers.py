"""What a provider can do and bills apart from the machine: one row each, with its source.

RunPod's and Lambda's billing terms were read in November 2026; AWS's and GCP's disk and egress
prices are from memory and to be checked. Provisioning times and download rates are assumptions
until runs have been measured: low, expected and high seconds from the request to the first
command on the machine, and MB/s from the Hub, wide on purpose.
"""

from msgspec import Struct

# A month of disk is billed as 730 hours; prices are per GB and taken per GiB where AWS does too.
_HOURS_A_MONTH = 730


def _monthly(usd_per_gb_month: float) -> int:
    return round(usd_per_gb_month * 1_000_000 / _HOURS_A_MONTH)


class Provider(Struct, frozen=True, kw_only=True):
    id: str  # as in --on, and SkyPilot's infra
    capabilities: tuple[str, ...]  # sky/clouds/*.py of SkyPilot 0.14.1
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


_ALL = ("stop", "autodown", "spot", "containers", "bucket_mounts")
_ASSUMED_VM_SECONDS = (90.0, 240.0, 900.0)  # assumption: boot and SkyPilot's own set-up
_ASSUMED_POD_SECONDS = (60.0, 180.0, 900.0)  # assumption: pod image pull included
_ASSUMED_MB_S = (200.0, 80.0, 20.0)  # assumption

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
            "$0.08 per GB and month; $0.09 per GB out to the internet (free allowance not counted)",
            interruptions_per_hour=(7e-5, 4e-3, 0.1),
            interruptions_source="low: 5 % in 30 days, the AWS Spot Instance Advisor's band for L4 "
            "(Thunder Compute, 1 May 2025; A100 5-10 %, H100 10-20 %). The advisor does not say of "
            "how many hours; expected 10 % a day and high 10 % an hour are assumptions",
            accelerators={"A100-40GB": "A100", "H100-SXM": "H100"},
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
            "balanced disk $0.10 per GB and month; $0.12 per GB out (premium tier)",
            accelerators={"A100-40GB": "A100", "H100-SXM": "H100"},
        ),
        Provider(
            id="runpod",
            # Spot as SkyPilot provisions it is bid-based and its prices equal on-demand's in the
            # catalog: no discount known, so none is offered.
            capabilities=("autodown", "containers"),
            billing_seconds=1,
            billing_minimum_seconds=0,
            microusd_per_gib_disk_hour=_monthly(0.10),
            microusd_per_gib_egress=0,
            provision_seconds=_ASSUMED_POD_SECONDS,
            download_mb_s=_ASSUMED_MB_S,
            source="docs.runpod.io, accounts-billing/billing: per second, no fee for data "
            "transfer; pods/storage: container disk $0.10 per GB and month",
            accelerators={"H100-PCIe": "H100"},
        ),
        Provider(
            id="lambda",
            capabilities=("autodown",),
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
    )
}

LOCAL = "local"
# Shown by name in messages and tables.
DISPLAY_NAMES = {"aws": "AWS", "gcp": "GCP", "runpod": "RunPod", "lambda": "Lambda", "vast": "Vast"}


def display_name(provider_id: str) -> str:
    return DISPLAY_NAMES.get(provider_id, provider_id)
