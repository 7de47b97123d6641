"""What this host lets a process use: cores, and memory that is free now. Linux first.

A container sees the host's `/proc` but is held by its cgroup, so the smaller of both counts.
`root` stands in for `/` in tests.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from launcher.types import GIB, MIB, Device

_CPUINFO_BYTES = 4096  # the first core's entry is enough; the file has one for each core


def available_bytes(root: Path) -> tuple[int, int]:
    """(usable now, total) RAM: MemAvailable, or what the cgroup still allows when that is less.

    Without /proc/meminfo (macOS) half of the RAM counts as usable: an assumption.
    """
    fields = _meminfo(root)
    if "MemTotal" not in fields:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total // 2, total
    total = fields["MemTotal"]
    usable = fields.get("MemAvailable", fields.get("MemFree", 0))
    for limit, used in _memory_limits(root):
        total = min(total, limit)
        usable = min(usable, max(0, limit - used))
    return usable, total


def usable_cores(root: Path) -> int:
    """Cores this process may run on: its affinity, cut by the cgroup's quota, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    for quota_cores in _quotas(root):
        cores = min(cores, max(1, int(quota_cores)))
    return cores


def cpu_name(root: Path) -> str:
    """The processor's name, or the architecture where the kernel does not say."""
    try:
        with (root / "proc/cpuinfo").open("rb") as file:
            text = file.read(_CPUINFO_BYTES).decode(errors="replace")
    except OSError:
        return os.uname().machine
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return os.uname().machine


def _meminfo(root: Path) -> dict[str, int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    fields = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "MemFree"):
            fields[name] = int(rest.split()[0]) * 1024
    return fields


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """This process's cgroup folders for a controller, innermost first, up to the mount.

    Version 2 has one tree; version 1 one for each controller. Inside a container the path that
    /proc names may not be mounted: then the mount itself is the container's group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = mounts
        elif controller in controllers.split(","):
            base = mounts / controller
        else:
            continue
        folder = base / path.lstrip("/")
        while folder != base:
            yield folder
            folder = folder.parent
        yield base


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of each group that has one; file cache that can be dropped is not use."""
    for folder in _groups(root, "memory"):
        for limit_file, used_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                yield limit, used - _stat(folder / "memory.stat", cache_key)


def _quotas(root: Path) -> Iterator[float]:
    for folder in _groups(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])
        quota = _number(folder / "cpu.cfs_quota_us")  # version 1; -1 is no limit
        period = _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period


def _stat(path: Path, key: str) -> int:
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None  # "max": no limit


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# macOS keeps a part of unified memory for itself: Metal's recommended working set is about two
# thirds of small and three quarters of large machines. Assumption: two thirds.
MPS_SHARE = (2, 3)
# FP16 rate of the M1's 8-core GPU (2.6 TFLOP/s FP32, Apple's press release of November 2020) and
# its memory rate. Every later chip is faster; taking all for an M1 is an assumption on the slow
# side until one is measured.
M1_TFLOPS, M1_GB_S = 2.6, 68.0
M1_GB = (8, 16)  # of unified memory, as the M1 was sold: the same press release
RATED = "rated as an M1"


def is_apple_silicon(system: str, machine: str) -> bool:
    return system == "Darwin" and machine == "arm64"


def mps_device(name: str, total_bytes: int, free_bytes: int | None = None) -> Device:
    """A Mac's GPU with so much unified memory; `free_bytes` of it, where it is this machine."""
    usable = mps_bytes(total_bytes)
    return Device(
        kind="mps",
        name=name,
        usable_bytes=usable if free_bytes is None else min(usable, free_bytes),
        total_bytes=total_bytes,
        dense_16bit_tflops=M1_TFLOPS,
        fp32_tflops=M1_TFLOPS,
        bandwidth_gb_s=M1_GB_S,
    )


def m1_devices() -> list[Device]:
    """The Macs that a machine without Metal can be asked about."""
    return [mps_device(f"M1, {size} GB", size * GIB) for size in M1_GB]


def mps_bytes(total_bytes: int) -> int:
    """What Metal lets a process use of unified memory."""
    return total_bytes * MPS_SHARE[0] // MPS_SHARE[1] // MIB * MIB
