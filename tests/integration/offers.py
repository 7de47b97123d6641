"""`launch offers` beside catalogs of its own."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from launcher.catalog.refresh import VARIABLE
from tests.integration.command import LAUNCH


@dataclass
class Offers:
    """`launch offers` beside catalogs of its own, with or without a SkyPilot to ask."""

    folder: Path
    python: str | None = None

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.launch("offers", *arguments, code=code)

    def launch(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
        environment |= {
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PATH": "/usr/bin:/bin",
        }
        environment |= {VARIABLE: self.python} if self.python else {}
        done = subprocess.run(
            [*LAUNCH, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stderr
        return done

    def json(self, *arguments: str) -> dict:
        return json.loads(self(*arguments, "--json").stdout)

    @property
    def catalogs(self) -> Path:
        return self.folder / ".sky" / "catalogs" / "v8"
