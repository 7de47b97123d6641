"""Virtual environments that tests make on first use and then keep, beside the launcher's own."""

import fcntl
import re
import subprocess
import venv
from collections.abc import Iterable

from launcher import paths

# pyproject's extra `cloud`, of whose clouds Slurm alone can be at hand; uv is what a cluster there
# is given in place of the one that SkyPilot would download.
SKYPILOT = ("skypilot[slurm]==0.14.1", "uv==0.13.9")


def skypilot_python() -> str:
    """An interpreter that has SkyPilot, which the launcher's environment does without."""
    return kept_environment(SKYPILOT)


def kept_environment(wanted: Iterable[str], name: str | None = None) -> str:
    """The interpreter of an environment with what is `wanted`, named after it where no name is
    given."""
    home = paths.environments_folder() / (name or re.sub(r"[^\w.]+", "-", "-".join(wanted)))
    python = home / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.parent / f"{home.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests beside these may be making it: wait
        if not (home / "ready").exists():
            venv.create(home, with_pip=True, symlinks=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *wanted], check=True)
            (home / "ready").touch()
    return str(python)
