"""`launch images`: the training image built, pushed and looked at, by Docker or Podman."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from msgspec import Struct

from launcher import paths
from launcher.checking import image_checks
from launcher.checking.checks import Check
from launcher.errors import BadInput, OutsideFailed
from launcher.executors import image, registry
from launcher.executors.engines import ENGINES, Engine
from launcher.inputs import registered
from launcher.inputs.images import mistake_in, without_tag
from launcher.provenance import git_revision

PUSH_SECONDS = 3600.0  # gigabytes over a home's line. Assumption


class BuildFlags(Struct, frozen=True, kw_only=True):
    """What the command line asks for. None: not given."""

    target: image.Target = "local"
    engine: str | None = None
    base: str | None = None
    pip_conf: str | None = None
    ca: str | None = None
    network: str | None = None


def build(flags: BuildFlags) -> tuple[str, str]:
    """Build the image; its name and its id on this machine. The engine's own lines go to stderr.

    Raises BadInput and OutsideFailed.
    """
    engine = chosen_engine(flags.engine)
    named = image.reference(flags.target)
    with tempfile.TemporaryDirectory() as folder:
        _lay_out(Path(folder))
        revision = git_revision(paths.job_code().parent) or ""
        command = [engine.name, *arguments(engine.name, flags, revision)]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
    if done.returncode != 0:
        raise OutsideFailed(f"{engine.name} could not build {named}; its lines above say why")
    return named, engine.ask("image", "inspect", "--format", "{{.Id}}", named)


def arguments(engine: str, flags: BuildFlags, revision: str) -> list[str]:
    """Of `docker build` or `podman build`, in the folder that has the context. Raises BadInput."""
    secrets = {"pip.conf": flags.pip_conf, "ca": flags.ca}
    found = ["build", "--file", image.DOCKERFILE, "--target", flags.target]
    found += ["--tag", image.reference(flags.target)]
    if engine == "podman":
        found += ["--format", "docker", "--layers"]  # OCI's format has no SHELL, nor health
    for name, value in image.build_arguments(flags.base, revision).items():
        found += ["--build-arg", f"{name}={value}"]
    for name, file in secrets.items():
        if file is not None:
            if not Path(file).is_file():
                raise BadInput(f"no file {file}")
            found += ["--secret", f"id={name},src={Path(file).absolute()}"]
    if flags.network is not None:
        found += ["--network", flags.network]
    return [*found, "."]


def push(reference: str, target: image.Target, engine_name: str | None) -> str:
    """Push the built image as `reference`; NAME@sha256:... as recipes pin it. Raises BadInput and
    OutsideFailed."""
    wrong = mistake_in(reference)
    if wrong is not None or "@" in reference:
        raise BadInput(f"{reference}: {wrong or 'a digest is known only after the push'}")
    engine, named = chosen_engine(engine_name), image.reference(target)
    if engine.labels(named) is None:
        raise BadInput(f"{engine.name} has no {named}; `launch images build --target {target}`")
    engine.ask("tag", named, reference)
    engine.ask("push", reference, seconds=PUSH_SECONDS)
    name = without_tag(reference)
    said = engine.ask("image", "inspect", "--format", "{{json .RepoDigests}}", reference)
    for digest in json.loads(said) or ():
        if digest.startswith(f"{name}@"):
            return str(digest)
    raise OutsideFailed(f"{engine.name} pushed {reference} and does not say its digest")


def check(target: image.Target, engine_name: str | None) -> list[Check]:
    """What can be said of this version's image as the engine has it. Raises BadInput and
    OutsideFailed."""
    engine, named = chosen_engine(engine_name), image.reference(target)
    labels = engine.labels(named)
    if labels is None:
        raise BadInput(f"{engine.name} has no {named}; `launch images build --target {target}`")
    form = "{{.Architecture}} {{.Size}}"
    architecture, size = engine.ask("image", "inspect", "--format", form, named).split()
    return list(image_checks.of_here(labels, architecture, int(size)))


def check_in_registry(reference: str) -> list[Check]:
    """What can be said of an image as its registry has it; plans count its size from now on.

    Raises BadInput and OutsideFailed.
    """
    wrong = mistake_in(reference)
    if wrong is not None:
        raise BadInput(f"{reference}: {wrong}")
    found = registry.look(reference)
    registered.keep(reference, found)
    return list(image_checks.of_registry(reference, found))


def chosen_engine(name: str | None) -> Engine:
    """The engine of that name, else the first that is here. Raises BadInput."""
    for engine in map(Engine, ENGINES if name is None else (name,)):
        if engine.is_installed:
            return engine
    raise BadInput(f"{name or 'neither docker nor podman'} is not on PATH; install one of both")


def _lay_out(folder: Path) -> None:
    for name, path in image.context().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
