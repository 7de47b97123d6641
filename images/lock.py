"""Make images/*.lock from pyproject's extras: `make lock`, or one of them by its extra's name.

Installs into a fresh environment and writes what came of it as plain `name==version` lines, so
that the locks name no registry. torch's own CUDA packages are left out: torch brings those that
fit its platform.
"""

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


def main(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra]
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
    for name in sys.argv[1:] or LOCKS:
        main(name)
