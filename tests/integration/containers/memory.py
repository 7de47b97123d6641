"""A control group that an engine's containers share, with less memory than the machine has."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def shared(name: str, limit_bytes: int) -> Iterator[str]:
    """What `dockerd --cgroup-parent` is told; without swap. Its containers are gone at the end."""
    unified = (_ROOT / "cgroup.controllers").exists()
    if unified:
        if "memory" not in (_ROOT / "cgroup.subtree_control").read_text().split():
            (_ROOT / "cgroup.subtree_control").write_text("+memory")
        group, limits = _ROOT / name, {"memory.max": limit_bytes, "memory.swap.max": 0}
    else:
        group = _ROOT / "memory" / name
        limits = {"memory.limit_in_bytes": limit_bytes, "memory.memsw.limit_in_bytes": limit_bytes}
    group.mkdir()
    try:
        for file, value in limits.items():
            if (group / file).exists():  # a kernel without swap has no limit of it
                (group / file).write_text(str(value))
        yield f"/{name}"
    finally:
        # the engine has made the same of the other controllers
        for place in [_ROOT / name] if unified else _ROOT.glob(f"*/{name}"):
            place.rmdir()
