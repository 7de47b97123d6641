"""Make images/*.lock from pyproject's extras: `make lock`, or one of them by its extra's name.

Installs into a fresh environment and writes what came of it as plain `name==version` lines, so
that the locks name no registry. torch's own CUDA packages are left out: torch brings those that
fit its platform. Those of trackers hold what they need beside requirements.lock, at its versions.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"train": "requirements.lock", "export": "export.lock"}
HEADS = {
    "train": "# The training environment. Made by `make lock` from pyproject's extra `train`.\n",
    "export": "# llama.cpp for export. Made by `make lock` from pyproject's extra `export`.\n",
}
LEFT_OUT = ("nvidia-", "triton", "cuda-")
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")


def wanted_of(extra: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"][extra]


def tracker(name: str) -> None:
    base = ROOT / "images" / LOCKS["train"]
    there = {line for line in base.read_text().splitlines() if "==" in line}
    with tempfile.TemporaryDirectory() as home:
        venv.create(home, with_pip=True, symlinks=True)
        command = [f"{home}/bin/python", "-m", "pip", "--disable-pip-version-check", "install"]
        command += ["--quiet", "--dry-run", "--report", "-", "-c", str(base)]
        command += wanted_of(f"track-{name}")
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = (package["metadata"] for package in json.loads(said)["install"])
    lines = sorted({f"{one['name']}=={one['version']}" for one in found} - there)
    head = f"# Beside requirements.lock, for --track {name}. Made by `make lock`.\n"
    (ROOT / "images" / f"track-{name}.lock").write_text(head + "\n".join(lines) + "\n")
    sys.stdout.write(f"{len(lines)} packages locked for --track {name}\n")


def main(extra: str) -> None:
    wanted = wanted_of(extra)
    torch = [name for name in wanted if name.startswith("torch==")]
    with tempfile.TemporaryDirectory() as home:
        venv.create(home, with_pip=True, symlinks=True)
        pip = [f"{home}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        for names in filter(None, (torch, wanted)):
            subprocess.run([*pip, "install", "--quiet", *names], check=True)
        frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    lines = sorted(line.partition("+")[0] for line in frozen.splitlines())
    kept = [line for line in lines if "==" in line and not line.startswith(LEFT_OUT)]
    kept.sort(key=lambda line: not line.startswith("torch=="))  # torch first
    (ROOT / "images" / LOCKS[extra]).write_text(HEADS[extra] + "\n".join(kept) + "\n")
    sys.stdout.write(f"{len(kept)} packages locked for {extra}\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or (*LOCKS, *TRACKERS):
        tracker(name) if name in TRACKERS else main(name)
