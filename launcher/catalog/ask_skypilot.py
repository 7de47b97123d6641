"""Runs in SkyPilot's environment, as a program of its own: where may it rent?

python -c THIS RESULT_FILE PROVIDER ...

The catalogs of enabled providers are fetched anew by SkyPilot's own code, which leaves a file that
was placed by hand as it is. Writes {"version", "enabled", "disabled", "unread"} to RESULT_FILE.
"""

import json
import sys
from pathlib import Path

from sky import __version__, check
from sky.catalog import common
from sky.clouds import cloud
from sky.utils import registry


def main(result: str, names: list[str]) -> None:
    compute = cloud.CloudCapability.COMPUTE
    answers = check.check_capability(compute, quiet=True, clouds=names)
    enabled = sorted({name.lower() for found in answers.values() for name in found})
    disabled = {name: why_not(name) for name in names if name not in enabled}
    unread = {name: reason for name in enabled if (reason := fetched(name)) is not None}
    found = {"version": __version__, "enabled": enabled, "disabled": disabled, "unread": unread}
    Path(result).write_text(json.dumps(found))


def why_not(name: str) -> str:
    """SkyPilot's reason in one line."""
    where = registry.CLOUD_REGISTRY.from_str(name)
    try:
        _, reason = where.check_credentials(cloud.CloudCapability.COMPUTE)
    except Exception as error:
        reason = str(error)
    if isinstance(reason, dict):  # one for each context of a cluster
        reason = "; ".join(f"{context}: {why}" for context, why in reason.items())
    return " ".join((reason or "not allowed by ~/.sky/config.yaml").split())


def fetched(name: str) -> str | None:
    """Bring the catalog up to date; the reason when that failed."""
    path = f"{name}/vms.csv"
    if name in ("kubernetes", "slurm", "ssh"):
        return None
    try:
        len(common.read_catalog(path, pull_frequency_hours=0))
    except Exception as error:
        return " ".join(str(error).split())
    return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
