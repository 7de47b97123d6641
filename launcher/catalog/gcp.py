"""GCP's catalog lists a machine without its GPUs and the GPUs without a machine: the sums.

Trap 4. Which machine carries which GPUs is SkyPilot's choice (`_ACC_INSTANCE_TYPE_DICTS` and
`_NUM_ACC_TO_NUM_CPU` of sky/catalog/gcp_catalog.py, 0.14.1).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from launcher.catalog.rules import Row

HOSTS = ("a2-", "a3-", "a4-", "g2-", "g4-", "n1-")  # machines that GPUs come with
_BY_NAME: tuple[tuple[str, str], ...] = (
    (r"a2-(?:high|mega)gpu-(\d+)g", "A100"),
    (r"a2-ultragpu-(\d+)g", "A100-80GB"),
    (r"a3-highgpu-(\d+)g", "H100"),
    (r"a3-megagpu-(\d+)g", "H100-MEGA"),
    (r"a3-ultragpu-(\d+)g", "H200"),
    (r"a4-highgpu-(\d+)g", "B200"),
)
_BY_VCPUS: dict[str, tuple[str, dict[int, int]]] = {
    "g2-standard-": ("L4", {4: 1, 8: 1, 12: 1, 16: 1, 32: 1, 24: 2, 48: 4, 96: 8}),
    "g4-standard-": ("RTXPRO6000", {48: 1, 96: 2, 192: 4, 384: 8}),
}
# GPUs that are attached to an N1 machine → cards → vCPUs that SkyPilot asks for at least
_ATTACHED: dict[str, dict[int, int]] = {
    "T4": {1: 4, 2: 8, 4: 48},
    "V100": {1: 8, 2: 16, 4: 32, 8: 64},
}
_GIB_PER_VCPU = 4  # _DEFAULT_GPU_MEMORY_CPU_RATIO
# In the file at 006059e, H100 on demand costs $9.80 to $12.74 by region, and $4.20 where a
# reservation's price was taken for it (`DWS Defined Duration`, which SkyPilot's fetcher leaves out
# since). Assumption: honest prices of one GPU differ by less than two times between regions.
LEAST_SHARE_OF_DEAREST = 0.5


def built_in(instance: str) -> tuple[str, int] | None:
    """(GPU, cards) that a machine type comes with; None for one that has none of its own."""
    for pattern, gpu in _BY_NAME:
        match = re.fullmatch(pattern, instance)
        if match is not None:
            return gpu, int(match[1])
    for prefix, (gpu, counts) in _BY_VCPUS.items():
        vcpus = instance.removeprefix(prefix)
        if vcpus != instance and vcpus.isdigit() and int(vcpus) in counts:
            return gpu, counts[int(vcpus)]
    return None


def joined(rows: Iterable[Row]) -> Iterator[tuple[Row, str | None]]:
    """Machines priced with their GPUs; what has no partner or no price, with the reason."""
    hosts: dict[str, list[Row]] = defaultdict(list)  # by zone
    gpus: list[Row] = []
    for row in rows:
        if row.accelerator:
            gpus.append(row)
        else:
            hosts[row.zone].append(row)
    dearest: dict[tuple[str, float | None], float] = defaultdict(float)
    for row in gpus:
        key = row.accelerator, row.count
        dearest[key] = max(dearest[key], row.usd or 0.0)
    for row in gpus:
        found = list(_carriers(row, hosts[row.zone]))
        if not found:
            yield row, f"no machine that carries {row.count or 0:g} is listed in {row.zone}"
        reserved = _reserved(row, dearest[row.accelerator, row.count])
        for host in found:
            together = _sum(host, row)
            yield together, reserved
            if reserved and together.spot_usd:
                yield msgspec.structs.replace(together, usd=None), None


def _carriers(gpu: Row, hosts: Iterable[Row]) -> Iterator[Row]:
    vcpus = _ATTACHED.get(gpu.accelerator, {}).get(int(gpu.count or 0))
    if vcpus is None:
        wanted = gpu.accelerator, gpu.count
        yield from (host for host in hosts if built_in(host.instance) == wanted)
        return
    able = [
        host
        for host in hosts
        if host.instance.startswith("n1-")
        and host.usd
        and (host.vcpus or 0) >= vcpus
        and (host.host_gib or 0) >= vcpus * _GIB_PER_VCPU
    ]
    if able:
        yield min(able, key=lambda host: host.usd or 0.0)


def _sum(host: Row, gpu: Row) -> Row:
    attached = gpu.accelerator in _ATTACHED
    name = f"{host.instance}+{gpu.accelerator}:{gpu.count:g}" if attached else host.instance
    return msgspec.structs.replace(
        gpu,
        instance=name,
        usd=_added(host.usd, gpu.usd),
        spot_usd=_added(host.spot_usd, gpu.spot_usd),
    )


def _added(one: float | None, other: float | None) -> float | None:
    """The sum to the micro-dollar; nothing when a part is not known."""
    return round(one + other, 6) if one and other else None


def _reserved(gpu: Row, dearest: float) -> str | None:
    if gpu.usd and gpu.usd < LEAST_SHARE_OF_DEAREST * dearest:
        return f"${gpu.usd:g} for the GPUs, and ${dearest:g} elsewhere: a reservation's price"
    return None
