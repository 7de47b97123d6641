"""The real command in real child processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = (str(Path(sys.executable).with_name("launch")),)  # the console script, as people run it


@dataclass
class Command:
    """`launch` with its own state folder, run in its own working folder."""

    folder: Path
    program: Sequence[str] = field(default=LAUNCH, kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        """The caller's, and bytecode is kept, as in an installation: a third of a start."""
        own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return own | {"XDG_STATE_HOME": str(self.folder / "state"), "COLUMNS": "200"}

    def __call__(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self.program, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
