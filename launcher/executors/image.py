"""The training image by its content: what goes into it, and the name that follows from that."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jobs.spec import WIRE_VERSION
from launcher import __version__, paths
from launcher.planning.resolve import CUDA
from results.sums import sha256_of

Target = Literal["local", "cloud"]
NAME = "loralift-train"
DOCKERFILE = "images/train.Dockerfile"
# Labels, beside those of OCI.
WIRE_LABEL = "loralift.wire_version"
CONTENT_LABEL = "loralift.content"
LOCK_LABEL = "loralift.lock_sha256"
CUDA_LABEL = "loralift.cuda"  # that the lock's torch is built for
_LOCK = "images/requirements.lock"


def context() -> dict[str, Path]:
    """Every file that the build sees: its place in the checkout → where it is."""
    images, jobs = paths.packaged("images"), paths.job_code()
    names = (DOCKERFILE, "images/check_stack.py", _LOCK)
    found = {name: images / Path(name).name for name in names}
    for package in (jobs, jobs.with_name("results")):
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{package.name}/{path.relative_to(package)}"] = path
    return found


@functools.cache
def content() -> str:
    """16 digits that change with the lock, the job's code and how the image is built."""
    digest = hashlib.sha256()
    for name, path in sorted(context().items()):
        digest.update(f"{name}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]


def lock_sha256() -> str:
    return sha256_of(context()[_LOCK])


def reference(target: Target = "local") -> str:
    """The image's name on this machine."""
    return f"{NAME}:{content()}{'' if target == 'local' else f'-{target}'}"


def build_arguments(base: str | None, revision: str) -> dict[str, str]:
    """What the Dockerfile's ARGs are given."""
    given = {
        "WIRE_VERSION": str(WIRE_VERSION),
        "LOCK_SHA256": lock_sha256(),
        "CUDA": CUDA,
        "CONTENT": content(),
        "VERSION": __version__,
        "REVISION": revision,
    }
    return given | ({"BASE_IMAGE": base} if base else {})


def mistake_in(labels: Mapping[str, str]) -> str | None:
    """Why an image with these labels cannot run this version's jobs, or None."""
    found = labels.get(WIRE_LABEL)
    if found is None:
        return "it is none of `launch images build`: it has no wire_version"
    if found != str(WIRE_VERSION):
        return f"its jobs read wire_version {found}, this launcher writes {WIRE_VERSION}"
    return None
