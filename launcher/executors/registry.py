"""Container registries, asked by skopeo: it knows the logins of Docker and of Podman, and pulls
nothing."""

import hashlib
import re
import shutil
import subprocess
from typing import TypeVar

import msgspec
from msgspec import Struct

from launcher.errors import BadInput, LaunchError, OutsideFailed
from launcher.inputs.images import digest_of, without_tag
from launcher.inputs.registered import Registered

PLATFORM = ("linux", "amd64")  # of the machines that are rented
SECONDS = 30.0  # for one answer; a few kilobytes. Assumption
_SKOPEO = "skopeo"


class NotThere(BadInput):
    """The registry answers, and has no such image, or none for us."""


class _Denied(NotThere):
    """It may be there for somebody else."""


class _Blob(Struct):
    digest: str
    size: int


class _Platform(Struct):
    os: str
    architecture: str


class _Listed(Struct):
    digest: str
    platform: _Platform | None = None


class _Manifest(Struct):
    """Of one image, or a list of images for several platforms (OCI image-spec 1.1, manifest.md and
    image-index.md; Docker's two are the same in these fields)."""

    config: _Blob | None = None
    layers: list[_Blob] = []
    manifests: list[_Listed] = []


class _Settings(Struct):
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    entrypoint: list[str] | None = msgspec.field(name="Entrypoint", default=None)


class _Config(Struct):
    architecture: str
    config: _Settings = msgspec.field(default_factory=_Settings)


def is_askable() -> bool:
    """Whether there is what asks."""
    return shutil.which(_SKOPEO) is not None


def look(reference: str) -> Registered:
    """The image of that name; of several platforms' the one of PLATFORM. Asked as nobody first, as
    a rented machine would, then with the user's login.

    Raises NotThere; BadInput where nothing here can ask; OutsideFailed where the registry gives no
    answer, or none that can be read.
    """
    if not is_askable():
        raise BadInput(
            f"{_SKOPEO} is not on PATH; it asks registries, with the login of docker or podman\n"
            "install it (apt-get install skopeo), or look at the image with your engine"
        )
    try:
        return _looked_at(reference, "--no-creds")
    except _Denied:
        return msgspec.structs.replace(_looked_at(reference), is_public=False)


def _looked_at(reference: str, *flags: str) -> Registered:
    name, pinned = without_tag(reference), digest_of(reference)
    named = f"{name}@{pinned}" if pinned else reference  # skopeo takes no tag beside a digest
    raw = _asked(named, "--raw", *flags)
    manifest = _read(raw, _Manifest, reference)
    if manifest.manifests:
        named = f"{name}@{_for_platform(manifest.manifests, reference)}"
        manifest = _read(_asked(named, "--raw", *flags), _Manifest, reference)
    if manifest.config is None:
        raise OutsideFailed(f"{reference} is no image that runs: its manifest has no configuration")
    config = _read(_asked(named, "--config", "--raw", *flags), _Config, reference)
    return Registered(
        digest=pinned or f"sha256:{hashlib.sha256(raw).hexdigest()}",
        architecture=config.architecture,
        compressed_bytes=manifest.config.size + sum(layer.size for layer in manifest.layers),
        labels=config.config.labels or {},
        entrypoint=tuple(config.config.entrypoint or ()),
    )


def _for_platform(listed: list[_Listed], reference: str) -> str:
    found = [(one.platform.os, one.platform.architecture) for one in listed if one.platform]
    for one in listed:
        if one.platform and (one.platform.os, one.platform.architecture) == PLATFORM:
            return one.digest
    has = ", ".join(sorted("/".join(platform) for platform in found)) or "no platform"
    raise NotThere(f"{reference} is there for {has}, not for {'/'.join(PLATFORM)}")


_T = TypeVar("_T")


def _read(raw: bytes, kind: type[_T], reference: str) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise OutsideFailed(f"the registry's answer for {reference}: {error}") from None


def _asked(reference: str, *flags: str) -> bytes:
    try:
        done = subprocess.run(
            [_SKOPEO, "inspect", *flags, f"docker://{reference}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise OutsideFailed(
            f"the registry of {reference} gave no answer in {SECONDS:g} s"
        ) from None
    if done.returncode == 0:
        return done.stdout
    raise _refusal(reference, _said(done.stderr.decode(errors="replace")))


# What a registry answers (OCI distribution-spec 1.1, "Error Codes"), as skopeo hands it on.
_ABSENT = ("manifest unknown", "name unknown", "name invalid")
_DENIED = ("unauthorized", "authentication required", "denied:", "is denied")


def _refusal(reference: str, said: str) -> LaunchError:
    if any(word in said.lower() for word in _ABSENT):
        return NotThere(f"its registry has no {reference}; `launch images push` puts one there")
    if any(word in said.lower() for word in _DENIED):
        return _Denied(
            f"its registry does not show us {reference}: {said}\n"
            "a wrong name, or `docker login` or `podman login` there first"
        )
    return OutsideFailed(f"the registry of {reference} cannot be asked: {said}")


def _said(stderr: str) -> str:
    """The message of skopeo's last line: time="…" level=fatal msg="Error parsing …: WHY"."""
    last = stderr.strip().splitlines()[-1] if stderr.strip() else "no word"
    found = re.search(r'msg="(.*)"$', last)
    message = found[1].replace('\\"', '"') if found else last
    return re.sub(r'^Error parsing image name "[^"]*": ', "", message)
