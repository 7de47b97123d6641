"""`launch doctor`: what this machine has for planning and training, and how to get the rest."""

import importlib.util
import os
import shutil
import sys
from typing import Literal

from msgspec import Struct

from launcher import paths
from launcher.catalog.local import survey
from launcher.catalog.offers import embedded_offers
from launcher.errors import LaunchError
from launcher.executors import environment
from launcher.ledger import Ledger
from launcher.types import GIB

TRAINING_ENVIRONMENT_GIB = 3  # 1.6 GB installed, and pip's temporary copies


class Check(Struct, frozen=True, kw_only=True):
    name: str
    state: Literal["ok", "missing", "broken"]  # missing: optional or made when first needed
    found: str
    next: str = ""


def examine(today: str) -> list[Check]:
    """All checks; those in state `broken` stop a local run."""
    return [
        _python(),
        _ledger(),
        _disk(),
        *_devices(today),
        _catalog(),
        _environment(environment.TRAINING, "the first local run makes it"),
        _environment(environment.EXPORT, "the first `launch export` to GGUF makes it"),
        _extra("sky", "SkyPilot", "cloud", "to rent machines"),
        _extra("boto3", "boto3", "s3", "to keep runs in S3"),
        _extra("huggingface_hub", "huggingface_hub", "hub", "to read models from the Hub"),
        _token(),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", state="ok", found=found)


def _ledger() -> Check:
    path = paths.ledger_file()
    try:
        runs = len(Ledger(path).runs())
    except LaunchError as error:
        return Check(name="ledger", state="broken", found=str(error))
    return Check(name="ledger", state="ok", found=f"{path}, {runs} runs")


def _disk() -> Check:
    folder = paths.environments_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    need = 0 if environment.is_ready() else TRAINING_ENVIRONMENT_GIB
    if free < need:
        why = f"the training environment needs {need} GiB"
        return Check(
            name="disk", state="broken", found=f"{free:.1f} GiB free in {folder}", next=why
        )
    return Check(name="disk", state="ok", found=f"{free:.0f} GiB free in {folder}")


def _devices(today: str) -> list[Check]:
    found = survey(today)
    checks = [Check(name="gpu", state="broken", found=p) for p in found.problems]
    for offer in found.offers:
        device = offer.device
        free = f"{device.usable_bytes / GIB:.1f} of {device.total_bytes / GIB:.1f} GiB usable"
        note = f"; {offer.note}" if offer.note else ""
        checks.append(Check(name=device.kind, state="ok", found=f"{device.name}, {free}{note}"))
    if not any(check.name in ("gpu", "cuda", "mps") for check in checks):
        checks.append(
            Check(name="gpu", state="missing", found="none here", next="training uses the CPU")
        )
    return checks


def _catalog() -> Check:
    dates = sorted(offer.as_of for offer in embedded_offers())
    found = f"{len(dates)} offers, prices from {dates[0]} to {dates[-1]}"
    return Check(name="catalog", state="ok", found=found)


def _environment(which: environment.Environment, made_by: str) -> Check:
    if environment.is_ready(which):
        return Check(name=which.purpose, state="ok", found=str(environment.folder(which)))
    return Check(
        name=which.purpose,
        state="missing",
        found=f"no {which.purpose} environment for this lock",
        next=made_by,
    )


def _extra(module: str, name: str, extra: str, purpose: str) -> Check:
    found = importlib.util.find_spec(module)
    # A folder called sky in the working folder is a namespace without an origin, not SkyPilot.
    if found is not None and found.origin is not None:
        return Check(name=extra, state="ok", found=f"{name} is installed")
    how = f"{purpose}: pip install 'loralift[{extra}]'"
    return Check(name=extra, state="missing", found=f"{name} is not installed", next=how)


def _token() -> Check:
    if os.environ.get("HF_TOKEN"):
        return Check(name="token", state="ok", found="HF_TOKEN is set")
    how = "only gated models and publishing need one"
    return Check(name="token", state="missing", found="HF_TOKEN is not set", next=how)
