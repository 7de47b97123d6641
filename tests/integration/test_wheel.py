"""A wheel of ours, in an empty environment, far from the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.integration.command import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_nothing_of_ours_is_called_sky(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"launcher", "jobs", "results"}
    assert "launcher/_sky/train.yaml" in names
    assert "launcher/_images/requirements.lock" in names
    assert "launcher/_images/export.lock" in names
    assert "launcher/_images/train.Dockerfile" in names
    assert "launcher/_images/check_stack.py" in names
    for tracker in ("mlflow", "tensorboard", "trackio", "wandb"):
        assert f"launcher/_images/track-{tracker}.lock" in names
    assert "jobs/recipes/sample.yaml" in names
    assert "launcher/catalog/offers.csv" in names


def test_the_installed_wheel_plans(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run(install, check=True, capture_output=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state")}
    plain = ["--dry-run", "--json"]
    for arguments in (plain, ["--model", "Qwen/Qwen2.5-7B", "--max-cost", "10", *plain]):
        command = [tmp_path / "venv" / "bin" / "launch", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["candidates"][0]["verdict"] == "chosen"
