"""Pure: what can be said of a training image by its labels, architecture and size."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from launcher.catalog.gpus import GPUS
from launcher.catalog.providers import PROVIDERS
from launcher.checking.checks import Check
from launcher.checking.fitness import LEAST_DRIVER
from launcher.executors import image, registry
from launcher.inputs.images import is_pinned, without_tag
from launcher.inputs.registered import Registered
from launcher.planning.resolve import CUDA, CUDA_CAPABILITY

_AGAIN = "`launch images build`"


def of_here(labels: Mapping[str, str], architecture: str, unpacked_bytes: int) -> Iterator[Check]:
    """An image that an engine has."""
    yield from _judged(labels, architecture)
    found = f"{unpacked_bytes / 1e9:.2f} GB unpacked; a registry's is compressed"
    yield Check(name="size", state="ok", found=found)


def of_registry(reference: str, found: Registered) -> Iterator[Check]:
    """An image that its registry has."""
    yield _there(reference, found)
    yield from _judged(found.labels, found.architecture)
    yield _entrypoint(found.entrypoint)
    yield Check(name="size", state="ok", found=_pull(found.compressed_bytes))


def pullable(reference: str, found: Registered) -> Check:
    """Whether rented machines can start from it, in one."""
    all_of_it = (
        _architecture(found.architecture),
        _entrypoint(found.entrypoint),
        _there(reference, found),
    )
    one = next((check for check in all_of_it if check.state == "failed"), all_of_it[-1])
    size = f"{found.compressed_bytes / 1e9:.2f} GB compressed"
    return msgspec.structs.replace(one, name="image", found=f"{reference}: {one.found}, {size}")


def _there(reference: str, found: Registered) -> Check:
    """For whom it is there."""
    digest = f"sha256:{found.digest.removeprefix('sha256:')[:12]}"
    if not found.is_public:
        said = f"has {digest} for your login alone, which rented machines do not get"
        return Check(name="registry", state="unknown", found=said, next="make it public")
    how = ""
    if not is_pinned(reference):
        how = f"{without_tag(reference)}@{found.digest} stays this one, a tag need not"
    return Check(name="registry", state="ok", found=f"has {digest}", next=how)


def _pull(compressed_bytes: int) -> str:
    """What plans count for it from now on, on the providers that run images."""
    rates = {p.download_mb_s for p in PROVIDERS.values() if "containers" in p.capabilities}
    fast, slow = max(rate[0] for rate in rates), min(rate[2] for rate in rates)
    low, high = (compressed_bytes / 1e6 / rate for rate in (fast, slow))
    return (
        f"{compressed_bytes / 1e9:.2f} GB compressed, {low:.0f}-{high:.0f} s to pull at "
        f"{fast:.0f}-{slow:.0f} MB/s, as plans count it now"
    )


def _judged(labels: Mapping[str, str], architecture: str) -> Iterator[Check]:
    yield _jobs(labels)
    yield _architecture(architecture)
    yield _driver(labels.get(image.CUDA_LABEL))


def _architecture(architecture: str) -> Check:
    _, needed = registry.PLATFORM
    fits = architecture == needed
    found = architecture if fits else f"{architecture}; the machines of offers are {needed}"
    return Check(name="architecture", state="ok" if fits else "failed", found=found)


def _entrypoint(entrypoint: Sequence[str]) -> Check:
    """What RunPod appends the shell command to with which SkyPilot sets a machine up."""
    if not entrypoint:
        return Check(name="entrypoint", state="ok", found="none, as RunPod needs it")
    if entrypoint[-1] == "jobs.train":  # images/train.Dockerfile's `local`
        found = "it runs the job, and no rented machine sets itself up: it was built as `local`"
        how = "`launch images build --target cloud`"
        return Check(name="entrypoint", state="failed", found=found, next=how)
    found = f"{entrypoint[0]} is given the machine's set-up on RunPod, and must run it"
    return Check(name="entrypoint", state="unknown", found=found)


def _jobs(labels: Mapping[str, str]) -> Check:
    wrong = image.mistake_in(labels)
    if wrong is not None:
        return Check(name="jobs", state="failed", found=wrong, next=_AGAIN)
    if labels.get(image.CONTENT_LABEL) == image.content():
        return Check(name="jobs", state="ok", found=f"this version's, {image.content()}")
    if labels.get(image.LOCK_LABEL) == image.lock_sha256():
        found = "the same wire_version and lock, from other code: rented machines bring their own"
    else:
        found = "the same wire_version, of another lock: a rented machine installs this one's"
    return Check(name="jobs", state="unknown", found=found, next=f"{_AGAIN} makes this version's")


def _driver(cuda: str | None) -> Check:
    """Plans hold every offer against this version's CUDA: which cards it knows, which driver."""
    if cuda is None:
        found = f"it does not say its CUDA; plans count with {CUDA}, driver {LEAST_DRIVER}"
        return Check(name="driver", state="unknown", found=found)
    if cuda != CUDA:
        found = f"its torch is for CUDA {cuda}; plans count with {CUDA}, driver {LEAST_DRIVER}"
        return Check(name="driver", state="unknown", found=found)
    cards = ((g.name, g.compute_capability) for g in GPUS if g.compute_capability is not None)
    dropped = [name for name, capability in cards if capability < CUDA_CAPABILITY]
    found = (
        f"CUDA {cuda} needs driver {LEAST_DRIVER} or newer, as plans ask of offers; it has dropped "
        f"{', '.join(dropped)}"
    )
    return Check(name="driver", state="ok", found=found)
