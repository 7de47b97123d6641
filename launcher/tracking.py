"""`--track`: what a tracker needs on the way to its job, and whether it is there."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from jobs.spec import Tracker
from launcher import paths
from launcher.catalog.providers import LOCAL
from launcher.checking.checks import Check

SPACE = "TRACKIO_SPACE_ID"
# Variables that a rented machine is given of this one's, by name, as secrets. A local job has all.
VARIABLES: dict[Tracker, tuple[str, ...]] = {
    "tensorboard": (),
    "trackio": (SPACE,),  # with HF_TOKEN, which it is for
    "wandb": ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_MODE", "WANDB_PROJECT"),
    "mlflow": (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_EXPERIMENT_NAME",
        "DATABRICKS_HOST",
        "DATABRICKS_TOKEN",
    ),
}
_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def tracker_lock(tracker: Tracker) -> Path:
    """What it needs beside the training environment, `name==version` a line."""
    return paths.packaged("images") / f"track-{tracker}.lock"


def check(tracker: Tracker, provider: str) -> Check:
    """Whether its variables let it work there. No server is asked."""
    rented = provider != LOCAL
    if tracker == "wandb":
        return _wandb(rented)
    if tracker == "mlflow":
        return _mlflow(rented)
    space = os.environ.get(SPACE)
    if tracker == "trackio" and space:
        if rented and not os.environ.get("HF_TOKEN"):
            return _failed(f"trackio's Space {space} needs HF_TOKEN, which is not set", "set it")
        return _ok(f"trackio, to the Space {space}")
    return _ok(f"{tracker}, in the run's folder")


def _wandb(rented: bool) -> Check:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return _ok("wandb, in the run's folder; `wandb sync` sends it later")
    if os.environ.get("WANDB_API_KEY"):
        return _ok("wandb, with WANDB_API_KEY; its server is not asked")
    # where `wandb login` keeps a key: for jobs of this machine
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if not rented and netrc.is_file() and host in netrc.read_text(errors="replace"):
        return _ok(f"wandb, with the key for {host} in {netrc}")
    where = "which a rented machine needs, " if rented else ""
    how = "set it, or WANDB_MODE=offline, which keeps all in the run's folder"
    return _failed(f"wandb has no WANDB_API_KEY, {where}".rstrip(", "), how)


def _mlflow(rented: bool) -> Check:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return _ok("mlflow, in the run's folder: MLFLOW_TRACKING_URI is not set")
    address = urlsplit(uri)
    elsewhere = address.scheme in ("http", "https") and address.hostname not in _HERE
    if rented and not elsewhere and address.scheme != "databricks":
        found = f"MLFLOW_TRACKING_URI is a place of this machine ({address.scheme or 'a path'})"
        return _failed(found, "a rented one needs a server's address, or none: in the run's folder")
    return _ok("mlflow, to MLFLOW_TRACKING_URI; it is not asked")


def _ok(found: str) -> Check:
    return Check(name="tracker", state="ok", found=found)


def _failed(found: str, how: str) -> Check:
    return Check(name="tracker", state="failed", found=found, next=how)
