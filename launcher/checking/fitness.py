"""Pure: what a plan's chosen offer must be for the training environment to work there."""

from collections.abc import Iterator

from launcher.catalog.local import driver
from launcher.catalog.providers import LOCAL, display_name
from launcher.checking.checks import Check
from launcher.planning.costs import disk_gib
from launcher.planning.refusals import gib
from launcher.planning.resolve import BF16_CAPABILITY, CUDA
from launcher.types import Candidate, Device, Offer

# What the training environment's CUDA needs on Linux (NVIDIA CUDA 13.0 release notes, "CUDA Toolkit
# and Corresponding Driver Versions").
LEAST_DRIVER = "580.65.06"

# Where SkyPilot 0.14.1 passes no disk size on (nothing of it in sky/provision/lambda_cloud and
# slurm): the machine has what it has.
OWN_DISK = ("lambda", "slurm")


def fitness(candidate: Candidate, own_python: bool) -> Iterator[Check]:
    """The checks that look at nothing but the plan. `own_python`: the user names the interpreter of
    a local job, which brings its own CUDA."""
    offer = candidate.offer
    yield _precision(candidate)
    if offer.device.kind == "cuda" and not (own_python and offer.provider == LOCAL):
        yield _driver(offer)
    if offer.provider != LOCAL:
        yield _disk(candidate)
        yield _capabilities(offer)


def _precision(candidate: Candidate) -> Check:
    assert candidate.spec is not None, "a chosen candidate has a spec"
    dtype, device = candidate.spec.dtype, candidate.offer.device
    if dtype == "bf16" and device.kind == "cuda" and not _at_least(device, BF16_CAPABILITY):
        found = f"bf16 needs compute capability 8.0, {device.name} has {_capability(device)}"
        return Check(name="dtype", state="failed", found=found, next="--set dtype=auto")
    return Check(name="dtype", state="ok", found=f"{dtype} on {device.name}")


def _driver(offer: Offer) -> Check:
    least = max(LEAST_DRIVER, offer.minimum_driver or LEAST_DRIVER, key=_version)
    needs = f"CUDA {CUDA} on {offer.device.name} needs driver {least} or newer"
    if offer.provider != LOCAL:
        found = f"{needs}; a rented machine's is seen only there"
        return Check(name="driver", state="skipped", found=found)
    here = driver(offer)
    if not here:
        return Check(name="driver", state="unknown", found=f"{needs}; this one's is not known")
    if _version(here) < _version(least):
        how = f"this machine has {here}: install a newer one"
        return Check(name="driver", state="failed", found=needs, next=how, outside=True)
    return Check(name="driver", state="ok", found=f"{here} ({least} or newer is needed)")


def _disk(candidate: Candidate) -> Check:
    assert candidate.estimate is not None, "a chosen candidate has an estimate"
    need = f"needs {gib(candidate.estimate.disk_bytes)} GiB"
    provider = candidate.offer.provider
    if provider in OWN_DISK:
        found = f"{need}; {display_name(provider)} lets nobody choose, and says nothing of its own"
        return Check(name="disk", state="unknown", found=found)
    rented = disk_gib(candidate.estimate)
    return Check(name="disk", state="ok", found=f"{need}, {rented} GiB are rented")


def _capabilities(offer: Offer) -> Check:
    needed = ("autodown", "spot") if offer.spot else ("autodown",)
    missing = [name for name in needed if name not in offer.capabilities]
    where = display_name(offer.provider)
    if not missing:
        return Check(name="provider", state="ok", found=f"{where} has {' and '.join(needed)}")
    found = f"SkyPilot has no {' and no '.join(missing)} on {where}"
    why = "a machine that nobody takes down bills on" if "autodown" in missing else "try --no-spot"
    return Check(name="provider", state="failed", found=found, next=why)


def _at_least(device: Device, capability: tuple[int, int]) -> bool:
    return device.compute_capability is not None and device.compute_capability >= capability


def _capability(device: Device) -> str:
    return ".".join(map(str, device.compute_capability)) if device.compute_capability else "none"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
