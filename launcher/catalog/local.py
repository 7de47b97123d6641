"""This machine as offers at $0: its GPUs with what is free of them, and its CPU with its RAM.

`pynvml` takes a while to import, so a machine without NVIDIA's library never imports it.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from launcher.catalog import host
from launcher.catalog.gpus import find
from launcher.catalog.priced import device
from launcher.catalog.providers import LOCAL
from launcher.errors import OutsideFailed
from launcher.types import GIB, Device, Offer

REGION = "this machine"
_LIBRARY = "libnvidia-ml.so.1"
_DRIVER = "NVML, driver "
_ROOT = Path("/")


class Survey(Struct, frozen=True):
    """What was found, and what should have been but was not."""

    offers: tuple[Offer, ...]
    problems: tuple[str, ...]


def survey(today: str) -> Survey:
    """GPUs through NVML or Metal, then the CPU; and the reasons why a GPU is not offered."""
    devices, problems = _nvidia(os.environ)
    apple = _apple(os.uname().sysname, os.uname().machine)
    found = [*devices, *apple, _cpu(_ROOT)]
    return Survey(tuple(_offer(f, today) for f in found), tuple(problems))


class _Found(Struct, frozen=True, kw_only=True):
    instance: str
    device: Device
    source: str
    note: str = ""


def driver(offer: Offer) -> str:
    """NVIDIA's driver behind a card of this machine; empty where there is none."""
    return offer.source.removeprefix(_DRIVER) if offer.source.startswith(_DRIVER) else ""


def uuid(index: int) -> str:
    """NVML's name for the card of that number. Raises OutsideFailed."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise OutsideFailed(f"GPU {index} does not answer: {error}; run nvidia-smi") from None


def _offer(found: _Found, today: str) -> Offer:
    return Offer(
        provider=LOCAL,
        instance=found.instance,
        region=REGION,
        device=found.device,
        count=1,
        microusd_per_hour=0,
        spot=False,
        as_of=today,
        source=found.source,
        executor="process",
        note=found.note,
        origin=REGION,
        enabled=True,
        enabled_as_of=today,
    )


def _cpu(root: Path) -> _Found:
    usable, total = host.available_bytes(root)
    cores = host.usable_cores(root)
    return _Found(
        instance="cpu",
        device=Device(
            kind="cpu",
            name=host.cpu_name(root),
            usable_bytes=usable,
            total_bytes=total,
            cores=cores,
        ),
        source="MemAvailable, cgroup limit, affinity",
    )


def _apple(system: str, machine: str) -> list[_Found]:
    if not host.is_apple_silicon(system, machine):
        return []
    free, total = host.available_bytes(_ROOT)
    metal = host.mps_device("Apple GPU", total, free)
    return [_Found(instance="mps", device=metal, source="unified memory", note=host.RATED)]


# --- NVIDIA ---------------------------------------------------------------------------------


def _nvidia(environ: Mapping[str, str]) -> tuple[list[_Found], list[str]]:
    import ctypes

    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return [], []  # no driver: nothing that should have been found
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], [f"NVIDIA's driver does not answer: {error}; run nvidia-smi"]
    try:
        return _cards(pynvml, environ.get("CUDA_VISIBLE_DEVICES"))
    finally:
        pynvml.nvmlShutdown()


def _cards(nvml: Any, visible: str | None) -> tuple[list[_Found], list[str]]:
    found, problems = [], []
    driver = str(nvml.nvmlSystemGetDriverVersion())
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if _hidden(visible, index, partial(nvml.nvmlDeviceGetUUID, handle)):
                problems.append(f"GPU {index} is hidden by CUDA_VISIBLE_DEVICES={visible}")
                continue
            found.append(_card(nvml, handle, index, driver))
        except nvml.NVMLError as error:
            problems.append(f"GPU {index}: {error}")
    return found, problems


def _hidden(visible: str | None, index: int, uuid: Callable[[], str]) -> bool:
    """Whether CUDA programs started from here do not see this card."""
    if visible is None:
        return False
    names = [name.strip() for name in visible.split(",")]
    if str(index) in names:
        return False
    return not any(n and not n.isdigit() and uuid().startswith(n) for n in names)


def _unknown_card(name: str) -> Device:
    """Its rates are 0: not in the table."""
    return Device(kind="cuda", name=name, usable_bytes=0, total_bytes=0)


def _card(nvml: Any, handle: Any, index: int, driver: str) -> _Found:
    name = str(nvml.nvmlDeviceGetName(handle))
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    facts = find(name)
    known = device(facts.name) if facts is not None else _unknown_card(name)
    found = msgspec.structs.replace(
        known,
        usable_bytes=int(memory.free),
        total_bytes=int(memory.total),
        compute_capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
    )
    notes = []
    if processes:
        notes.append(f"{memory.used / GIB:.1f} GiB in use by {len(processes)} processes")
    if facts is None:
        notes.append("speed unknown: not in the GPU table")
    return _Found(
        instance=f"gpu{index}",
        device=found,
        source=f"{_DRIVER}{driver}",
        note="; ".join(notes),
    )
