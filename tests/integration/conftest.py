"""A private ledger for each test; the environments are kept ones, made when absent."""

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from launcher.executors import environment
from tests.integration.command import ROOT, Command
from tests.integration.environments import kept_environment, skypilot_python

# pyproject's extra `label`, the wire format's msgspec, and llama.cpp's server
LABEL = ("openai==2.54.0", "msgspec==0.22.0", "xllamacpp==2026.10.11549")


@pytest.fixture(scope="session")
def train_python() -> str:
    """The interpreter of the training environment."""
    return str(environment.training_python(None, lambda line: print(line, file=sys.stderr)))


@pytest.fixture(scope="session")
def sky_python() -> str:
    """An interpreter that has SkyPilot, which the launcher's environment does without."""
    return skypilot_python()


@pytest.fixture(scope="session")
def hub_python() -> str:
    """An interpreter with what the launcher needs and its extras `hub` and `parquet`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["hub"], *extras["parquet"]]
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()
    return kept_environment(wanted, f"hub-{digest[:16]}")


@pytest.fixture(scope="session")
def label_python() -> str:
    """An interpreter that has what jobs.label needs, and llama.cpp's server; no torch."""
    return kept_environment(LABEL)


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
