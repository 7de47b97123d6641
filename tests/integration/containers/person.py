"""Somebody who is not root and trains in containers: an own Unix user with an own installation."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.command import ROOT
from tests.integration.containers.engines import unmount
from tests.integration.containers.launching import ContainerCommand
from tests.servers import unix_users

_OURS = ("launcher", "jobs", "results", "sky", "images")


@dataclass(frozen=True)
class Person:
    name: str
    uid: int
    folder: Path  # everybody may look in; theirs are `home` and `run` there

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": unix_users.SYSTEM_PATH,
        }

    def as_them(self, *command: str) -> list[str]:
        who = (f"--reuid={self.name}", f"--regid={self.name}", "--init-groups")
        return ["setpriv", *who, *command]

    def ask(self, *command: str) -> str:
        """What a command of theirs prints."""
        return subprocess.run(
            self.as_them(*command),
            cwd=self.home,
            env=dict(self.variables),
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def launch(self, **variables: str) -> ContainerCommand:
        """Their `launch`, with an engine's variables."""
        python = str(self.folder / "venv" / "bin" / "python")
        program = self.as_them(python, "-m", "launcher")
        return ContainerCommand(self.home, {**self.variables, **variables}, program=program)


@contextlib.contextmanager
def person() -> Iterator[Person]:
    """Gone at the end, with all that they left."""
    name = f"loralift-{secrets.token_hex(4)}"
    folder = Path("/tmp") / f"{name}-user"  # short, as a socket's path must be
    folder.mkdir()
    folder.chmod(0o755)
    unix_users.add(name, folder / "home")
    uid = unix_users.uid(name)
    assert uid is not None
    found = Person(name, uid, folder)
    try:
        (folder / "run").mkdir(0o700)
        shutil.chown(folder / "run", name, name)
        unix_users.copy_environment(Path(sys.prefix), folder / "venv", unix_users.system_python())
        for part in _OURS:
            shutil.copytree(ROOT / part, folder / "src" / part)
        yield found
    finally:
        _end_processes(uid)
        unmount(folder)
        shutil.rmtree(folder)
        unix_users.remove(name)


def _end_processes(uid: int) -> None:
    """Podman leaves one that holds a user's name spaces."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == uid:
                os.kill(int(path.name), signal.SIGKILL)
