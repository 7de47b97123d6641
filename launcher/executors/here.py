"""Which executor a job on this machine gets: a container where everything for one is there."""

import functools
import os
import shutil
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from jobs.spec import DeviceKind, ResolvedSpec
from launcher.errors import BadInput
from launcher.executors.confinement import needs_network
from launcher.executors.engines import ENGINES, Engine, EngineFailed
from launcher.executors.environment import PYTHON_VARIABLE
from launcher.types import Origin

EXECUTOR_VARIABLE = "LORALIFT_EXECUTOR"  # as --executor sets it
PROCESS = "process"
AUTO = "auto"
CHOICES = (AUTO, PROCESS, *ENGINES)
SELINUX = Path("/sys/fs/selinux/enforce")  # 1 where it enforces


class Choice(NamedTuple):
    name: str
    why: str  # one line


def remembered(origin: Origin) -> Origin:
    """The origin with what is asked for now, for who goes on in another process and folder."""
    python = os.environ.get(PYTHON_VARIABLE, "")
    found = shutil.which(python) if python else None
    return msgspec.structs.replace(
        origin,
        executor=os.environ.get(EXECUTOR_VARIABLE, ""),
        python=os.path.abspath(found) if found is not None else python,
    )


def ask_again(origin: Origin) -> None:
    """Ask, in this process's environment, for what the run was started with, where nothing else
    is asked for."""
    asked = {EXECUTOR_VARIABLE: origin.executor, PYTHON_VARIABLE: origin.python}
    for variable, value in asked.items():
        if value:
            os.environ.setdefault(variable, value)


def local_executor(spec: ResolvedSpec) -> Choice:
    """The one that was asked for, else the first engine that has this version's image, where a
    container serves the job as well. Asks the engines, each within seconds. Raises BadInput."""
    asked = os.environ.get(EXECUTOR_VARIABLE) or AUTO
    if asked not in CHOICES:
        raise BadInput(f"{EXECUTOR_VARIABLE}={asked}: expected {', '.join(CHOICES)}")
    if asked == PROCESS:
        return Choice(PROCESS, "as a process: so it was asked for")
    if asked != AUTO:
        if not sys.platform.startswith("linux"):
            raise BadInput(
                f"--executor {asked}: only on Linux; elsewhere a container is another machine\n"
                "--executor process"
            )
        if spec.track is not None:
            raise BadInput(
                f"--track {spec.track}: the image has no packages for it\n--executor process has"
            )
        return Choice(asked, f"in a container of {asked}: so it was asked for")
    if os.environ.get(PYTHON_VARIABLE):
        return Choice(PROCESS, "as a process: of the interpreter that was named")
    if not sys.platform.startswith("linux"):
        return Choice(
            PROCESS, "as a process: elsewhere than on Linux a container is another machine"
        )
    if spec.track is not None:
        return Choice(PROCESS, f"as a process: the image has no packages for {spec.track}")
    if SELINUX.exists() and SELINUX.read_text().strip() == "1":
        return Choice(PROCESS, "as a process: SELinux keeps containers from the run's folder")
    if needs_network(spec):
        return Choice(PROCESS, "as a process: a container would fetch the model for each run anew")
    return _engine_or_process(spec.device)


class Looked(NamedTuple):
    """An engine that was asked for this version's image."""

    found: Literal["image", "unfit image", "no image", "no answer"]
    trouble: str = ""  # what is against it, in one line


@functools.cache
def _engine_or_process(device: DeviceKind) -> Choice:
    """Asked once in the life of the process. What an engine has against it is `launch doctor`'s to
    say, but for an image that is there and does not do."""
    installed = [engine for engine in map(Engine, ENGINES) if engine.is_installed]
    if not installed:
        return Choice(PROCESS, "as a process: neither docker nor podman is here")
    why = "no container image; `launch images build` makes one"
    for engine in installed:
        found = look(engine, device)
        if found.found == "image":
            return Choice(engine.name, f"in a container of {engine.name}, which has the image")
        if found.found == "unfit image":
            why = f"{engine.name}: {found.trouble}"
    return Choice(PROCESS, f"as a process: {why}")


def look(engine: Engine, device: DeviceKind) -> Looked:
    """Whether it has the image, and can run a job on the device."""
    from launcher.executors import image

    try:
        labels = engine.labels(image.reference())
    except EngineFailed as error:
        return Looked("no answer", str(error))
    if labels is None:
        return Looked("no image", "it has no image of this version")
    mistake = image.mistake_in(labels)
    if mistake is None and device == "cuda" and engine.lacks_for_gpus():
        mistake = f"without {engine.lacks_for_gpus()} it hands over no GPU"
    return Looked("unfit image", mistake) if mistake else Looked("image")
