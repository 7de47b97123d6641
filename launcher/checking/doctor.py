"""`launch doctor`: what this machine has for planning and training, and how to get the rest.

With a job, preflight.py's checks of it stand beside these.
"""

import importlib.util
import shutil
import sys
from datetime import UTC, datetime
from functools import partial

from launcher import paths, preflight
from launcher.catalog import enabled, refresh
from launcher.catalog.local import survey
from launcher.catalog.offers import embedded_offers
from launcher.catalog.providers import display_name
from launcher.checking.checks import Check, Question, asked
from launcher.errors import LaunchError
from launcher.executors import environment
from launcher.executors.engines import ASK_SECONDS, ENGINES, Engine
from launcher.executors.here import look
from launcher.ledger import Ledger
from launcher.types import GIB
from results.receipt import counted

TRAINING_ENVIRONMENT_GIB = 3  # 1.6 GB installed, and pip's temporary copies


def examine(today: str) -> list[Check]:
    """All checks; those that failed stop a local run.

    Only a HF_TOKEN that is set is asked about over the network.
    """
    from launcher.checking import hub_access

    return [
        _python(),
        _ledger(),
        _disk(),
        *_devices(today),
        _catalog(),
        _environment(environment.TRAINING, "the first local run makes it"),
        _environment(environment.EXPORT, "the first `launch export` to GGUF makes it"),
        *asked([Question(name, ASK_SECONDS + 1, partial(engine, name)) for name in ENGINES]),
        _skypilot(),
        _extra("boto3", "boto3", "s3", "to keep runs in S3"),
        _extra("huggingface_hub", "huggingface_hub", "hub", "to read models from the Hub"),
        *asked([Question("token", hub_access.SECONDS + 1, hub_access.token)]),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", state="ok", found=found)


def _ledger() -> Check:
    path = paths.ledger_file()
    try:
        known = len(Ledger(path).runs())
    except LaunchError as error:
        return Check(name="ledger", state="failed", found=str(error))
    return Check(name="ledger", state="ok", found=f"{path}, {counted(known, 'run')}")


def _disk() -> Check:
    folder = paths.environments_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    need = 0 if environment.is_ready() else TRAINING_ENVIRONMENT_GIB
    if free < need:
        why = f"the training environment needs {need} GiB"
        return Check(
            name="disk", state="failed", found=f"{free:.1f} GiB free in {folder}", next=why
        )
    return Check(name="disk", state="ok", found=f"{free:.0f} GiB free in {folder}")


def _devices(today: str) -> list[Check]:
    found = survey(today)
    checks = [Check(name="gpu", state="failed", found=p) for p in found.problems]
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


def engine(name: str) -> Check:
    """Whether local runs may work in a container of it. A machine can do without."""
    found = Engine(name)
    if not found.is_installed:
        how = "a local run is a process then"
        return Check(name=name, state="missing", found=f"{name} is not installed", next=how)
    looked = look(found, "cpu")
    if looked.found == "image":
        return Check(name=name, state="ok", found="it has this version's image")
    if looked.found == "no answer":
        how = "a local run is a process while it does not"
        return Check(name=name, state="unknown", found=looked.trouble, next=how)
    how = "`launch images build` makes one; a local run is a process without"
    return Check(name=name, state="missing", found=looked.trouble, next=how)


def _extra(module: str, name: str, extra: str, purpose: str) -> Check:
    found = importlib.util.find_spec(module)
    # A folder called sky in the working folder is a namespace without an origin, not SkyPilot.
    if found is not None and found.origin is not None:
        return Check(name=extra, state="ok", found=f"{name} is installed")
    how = f"{purpose}: pip install 'loralift[{extra}]'"
    return Check(name=extra, state="missing", found=f"{name} is not installed", next=how)


def _skypilot() -> Check:
    try:
        refresh.skypilot_python()
    except LaunchError:
        how = "to rent machines: pip install 'loralift[cloud]'"
        return Check(name="cloud", state="missing", found="SkyPilot is not installed", next=how)
    return providers(enabled.last_check(), datetime.now(UTC))


def providers(last: enabled.Check | None, now: datetime) -> Check:
    """Where SkyPilot may rent, with the age of its answer. Pure."""
    how = "`launch offers --refresh` asks SkyPilot"
    if last is None:
        found = "SkyPilot is installed; where it may rent is not known"
        return Check(name="cloud", state="unknown", found=found, next=how)
    age = now - datetime.fromisoformat(last.checked_at)
    where = ", ".join(map(display_name, last.enabled)) or "nowhere"
    found = f"SkyPilot {last.skypilot} may rent: {where} ({_ago(age.total_seconds())})"
    if age < preflight.CHECK_LASTS:
        return Check(name="cloud", state="ok", found=found)
    return Check(name="cloud", state="unknown", found=found, next=how)


def _ago(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"
