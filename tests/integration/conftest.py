"""A private ledger for each test; the environments are kept ones, made when absent."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from launcher import paths
from launcher.executors import environment
from tests.integration.command import Command

SKYPILOT = "skypilot==0.14.1"  # pyproject's extra `cloud`, without any cloud's own packages


@pytest.fixture(scope="session")
def train_python() -> str:
    """The interpreter of the training environment."""
    return str(environment.training_python(None, lambda line: print(line, file=sys.stderr)))


@pytest.fixture(scope="session")
def sky_python() -> str:
    """An interpreter that has SkyPilot, which the launcher's environment does without."""
    home = paths.environments_folder() / SKYPILOT.replace("==", "-")
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, symlinks=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, SKYPILOT], check=True)
        (home / "ready").touch()
    return str(python)


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
