"""A private ledger for each test; the environments are kept ones, made when absent."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from launcher import paths
from launcher.executors import environment
from tests.integration.command import ROOT, Command

SKYPILOT = "skypilot==0.14.1"  # pyproject's extra `cloud`, without any cloud's own packages

# pyproject's extra `label`, the wire format's msgspec, and llama.cpp's server
LABEL = ("openai==2.54.0", "msgspec==0.22.0", "xllamacpp==2026.10.11549")


@pytest.fixture(scope="session")
def train_python() -> str:
    """The interpreter of the training environment."""
    return str(environment.training_python(None, lambda line: print(line, file=sys.stderr)))


@pytest.fixture(scope="session")
def sky_python() -> str:
    """An interpreter that has SkyPilot, which the launcher's environment does without."""
    return kept_environment(SKYPILOT.replace("==", "-"), [SKYPILOT])


@pytest.fixture(scope="session")
def hub_python() -> str:
    """An interpreter with what the launcher needs and its extras `hub` and `parquet`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["hub"], *extras["parquet"]]
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()
    return kept_environment(f"hub-{digest[:16]}", wanted)


def kept_environment(name: str, wanted: list[str]) -> str:
    """The interpreter of a virtual environment that is made on first use and then kept."""
    home = paths.environments_folder() / name
    python = home / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests beside these may be making it: wait
        if not (home / "ready").exists():
            venv.create(home, with_pip=True, symlinks=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *wanted], check=True)
            (home / "ready").touch()
    return str(python)


@pytest.fixture(scope="session")
def label_python() -> str:
    """An interpreter that has what jobs.label needs, and llama.cpp's server; no torch."""
    return kept_environment("-".join(LABEL).replace("==", "-"), list(LABEL))


@pytest.fixture(scope="session")
def main_run(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Command, dict]:
    """The literal command of the README, with --json: one trained run for all who look at it."""
    launch = Command(tmp_path_factory.mktemp("main"))
    done = launch("--strategy", "qlora", "--max-cost", "10", "--json", timeout=1200)
    assert done.returncode == 0, done.stderr
    return launch, json.loads(done.stdout)


@pytest.fixture
def launch(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for NVIDIA's library, for LD_LIBRARY_PATH."""
    source = ROOT / "tests" / "fixtures" / "nvml_stand_in.c"
    folder = tmp_path_factory.mktemp("nvml")
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "a C compiler is needed: apt-get install gcc libc6-dev"
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(target), str(source)],
        check=True,
    )
    return folder
