"""Docker and Podman as their commands: what both are asked in the same words.

DOCKER_HOST, CONTAINER_HOST and the engines' own files say which daemon or storage, as for anyone.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from launcher.errors import OutsideFailed

ENGINES = ("docker", "podman")
# For an answer from what is on this machine; a daemon that hangs is given up then. Assumption.
ASK_SECONDS = 10.0
# Container Device Interface has its files (SPEC.md of cncf-tags/container-device-interface).
_CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
# What `docker run --gpus` starts, from NVIDIA's container toolkit.
_NVIDIA_HOOK = "nvidia-container-runtime-hook"


class EngineFailed(OutsideFailed):
    """The engine did not answer, or refused; the last line of what it said."""


class State(Struct, frozen=True):
    """Of a container that is there."""

    running: bool
    exit_code: int


class Engine:
    """One engine, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.name) is not None

    def ask(self, *arguments: str, seconds: float = ASK_SECONDS, folder: Path | None = None) -> str:
        """What the engine prints, asked in that folder. Raises EngineFailed."""
        try:
            done = subprocess.run(
                [self.name, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                cwd=folder,
            )
        except OSError as error:
            raise EngineFailed(f"{self.name} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise EngineFailed(
                f"{self.name} {arguments[0]} gave no answer in {seconds:g} s; is its daemon well?"
            ) from None
        if done.returncode != 0:
            raise EngineFailed(_said(self.name, arguments[0], done.stderr, done.returncode))
        return done.stdout.strip()

    def labels(self, image: str) -> Mapping[str, str] | None:
        """An image's labels; None where this machine has no such image. Raises EngineFailed."""
        try:
            said = self.ask("image", "inspect", "--format", "{{json .Config.Labels}}", image)
        except EngineFailed as error:
            if is_missing(error):
                return None
            raise
        found: dict[str, str] | None = json.loads(said)
        return found or {}

    def state(self, container: str) -> State | None:
        """A container's; None where there is none of that name. Raises EngineFailed."""
        form = "{{.State.Running}} {{.State.ExitCode}}"
        try:
            running, code = self.ask("container", "inspect", "--format", form, container).split()
        except EngineFailed as error:
            if is_missing(error):
                return None
            raise
        return State(running == "true", int(code))

    def user(self) -> list[str]:
        """Flags with which what a container writes belongs to who started it, and that one's
        groups may be read by it too."""
        own = ["--user", f"{os.getuid()}:{os.getgid()}"]
        if self.name == "docker":  # Podman keeps them with crun alone
            own += [f"--group-add={group}" for group in os.getgroups() if group != os.getgid()]
        if os.getuid() == 0:
            return own
        if self.name == "podman":
            return ["--userns", "keep-id", *own]
        if "rootless" in self.ask("info", "--format", "{{json .SecurityOptions}}"):
            return ["--user", "0:0"]  # there it is the user's own number outside
        return own

    def gpu(self, index: str, uuid: str) -> list[str]:
        """Flags that hand over one GPU, by NVML's number and name."""
        if self.name == "podman":  # its --gpus hands over none, and says nothing
            return ["--device", f"nvidia.com/gpu={index}"]
        return ["--gpus", f"device={uuid}"]

    def lacks_for_gpus(self) -> str | None:
        """What a GPU in a container would need and is not here, as far as can be seen."""
        if self.name == "docker":
            return None if shutil.which(_NVIDIA_HOOK) else _NVIDIA_HOOK
        specs = (path for folder in _CDI_FOLDERS for path in folder.glob("*"))
        return None if any(p.suffix in (".json", ".yaml") for p in specs) else "a CDI description"


# Docker's words and Podman's; where Docker's daemon is down it says "no such file or directory".
_MISSING = ("no such container", "no such image", "no such object", "not known")


def is_missing(error: EngineFailed) -> bool:
    """Whether it says that there is no such image or container."""
    return any(word in str(error).lower() for word in _MISSING)


def _said(name: str, verb: str, stderr: str, code: int) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Run '", "See '"))]
    return f"{name} {verb}: {told[-1] if told else f'exit code {code}'}"


def quoted_mount(**fields: Any) -> str:
    """A --mount's value: comma-separated, a field that has a comma or a quote in quotes."""
    parts = []
    for key, value in fields.items():
        part = key if value is True else f"{key}={value}"
        if "," in part or '"' in part:
            part = '"' + part.replace('"', '""') + '"'
        parts.append(part)
    return ",".join(parts)
