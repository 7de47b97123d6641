"""A stage of the job in the foreground: export, predict. It is over when the command is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from launcher import paths
from launcher.errors import OutsideFailed


def run_module(
    python: Path,
    module: str,
    *arguments: str,
    folder: Path,
    stdout: IO[Any] | int | None,
    stderr: IO[Any] | int | None = None,
    seconds: float | None = None,
) -> int:
    """Run `python -m module` in `folder` with a private copy of the jobs package; its exit code.

    `stdout` and `stderr` as subprocess takes them: None is the command's own. On Ctrl-C the stage,
    which hears it too, is waited for; beyond `seconds` it is ended. Raises OutsideFailed then, and
    when the interpreter cannot be started.
    """
    with tempfile.TemporaryDirectory() as code:
        shutil.copytree(
            paths.job_code(), Path(code) / "jobs", ignore=shutil.ignore_patterns("__pycache__")
        )
        environment = {
            **os.environ,
            "PYTHONPATH": code,  # with -P nothing of the user's folder is imported
            "PYTHONNOUSERSITE": "1",
        }
        command = [str(python), "-P", "-m", module, *arguments]
        try:
            stage = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        except OSError as error:
            raise OutsideFailed(f"cannot start {python}: {error.strerror}") from None
        try:
            return stage.wait(seconds)
        except subprocess.TimeoutExpired:
            stage.kill()
            stage.wait()
            raise OutsideFailed(f"{module} gave no answer in {seconds:g} s") from None
        except KeyboardInterrupt:
            stage.wait()
            raise
