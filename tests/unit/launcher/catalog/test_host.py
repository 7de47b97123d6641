"""The files are laid out in a folder as the kernel shows them."""

import os
from pathlib import Path

import pytest

from launcher.catalog import host
from launcher.types import GIB

MEMINFO = f"MemTotal: {16 * 2**20} kB\nMemFree: 1024 kB\nMemAvailable: {10 * 2**20} kB\n"


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_free_memory_is_what_the_kernel_says(tmp_path):
    assert host.available_bytes(lay(tmp_path, {"proc/meminfo": MEMINFO})) == (10 * GIB, 16 * GIB)


def test_a_version_2_limit_cuts_it_and_file_cache_is_not_use(tmp_path):
    group = "sys/fs/cgroup/user/job/"
    lay(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/user/job\n",
            group + "memory.max": str(8 * GIB),
            group + "memory.current": str(5 * GIB),
            group + "memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
        },
    )
    assert host.available_bytes(tmp_path) == (5 * GIB, 8 * GIB)


def test_a_parents_limit_counts_too(tmp_path):
    lay(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.max": str(4 * GIB),
            "sys/fs/cgroup/user/memory.current": str(GIB),
        },
    )
    assert host.available_bytes(tmp_path) == (3 * GIB, 4 * GIB)


def test_a_version_1_limit_in_a_container(tmp_path):
    lay(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB // 2),
        },
    )
    assert host.available_bytes(tmp_path) == (3 * GIB // 2, 2 * GIB)


def test_an_unlimited_version_1_group_changes_nothing(tmp_path):
    lay(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
        },
    )
    assert host.available_bytes(tmp_path) == (10 * GIB, 16 * GIB)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_a_quota_cuts_the_cores(tmp_path, files, cores):
    expected = len(os.sched_getaffinity(0)) if cores is None else cores
    assert host.usable_cores(lay(tmp_path, files)) == expected


def test_the_processor_by_its_name_or_architecture(tmp_path):
    assert host.cpu_name(tmp_path) == os.uname().machine
    lay(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: A Chip 9000\n"})
    assert host.cpu_name(tmp_path) == "A Chip 9000"


def test_apple_memory_is_shared():
    assert host.is_apple_silicon("Darwin", "arm64")
    assert not host.is_apple_silicon("Linux", "aarch64")
    assert host.mps_bytes(24 * GIB) == 16 * GIB
    assert host.mps_device("Mac", 24 * GIB).usable_bytes == 16 * GIB
    assert host.mps_device("Mac", 24 * GIB, 9 * GIB).usable_bytes == 9 * GIB
