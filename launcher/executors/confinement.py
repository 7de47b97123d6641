"""Pure: what a job's container may see and do. It can write its run's folder and /tmp alone.

Paths are the same inside as outside, so a spec means the same.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.executors.engines import quoted_mount
from launcher.types import DATA_FILES, GIB

PYTHON = "/opt/loralift/venv/bin/python"  # of images/train.Dockerfile
TOKEN_FILE = "/run/secrets/hf_token"
# torch hands batches from loader to job, and from rank to rank, in shared memory, of which Docker
# gives 64 MB by default. Assumption.
SHM_BYTES = 2 * GIB
TMP_BYTES = 2 * GIB  # Triton's compiled kernels, and what libraries put aside. Assumption
PIDS = 4096  # threads count: a pool for each core, loaders, the Hub's client. Assumption
# Variables of this environment that a job may need: by name, so no value stands in the command.
PASSED_ON = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "LORALIFT_PRETEND_GPU"),
    *("HF_ENDPOINT", "HF_HUB_DISABLE_XET"),
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# Both spellings: Python's clients read either, curl and wget know `http_proxy` in lower case alone.
PASSED_ON_WITH_NETWORK = (*_PROXIES, *(name.lower() for name in _PROXIES))


class Cell(Struct, frozen=True, kw_only=True):
    """What a container is made of, beside the job itself."""

    name: str
    image: str
    work: Path
    module: str
    memory_bytes: int
    user: tuple[str, ...]  # flags
    gpus: tuple[str, ...] = ()  # flags
    gpu_uuids: tuple[str, ...] = ()
    token: Path | None = None  # a file with the Hub's
    environment: tuple[str, ...] = ()  # names that are set here


def needs_network(spec: ResolvedSpec) -> bool:
    """Whether the model, or the adapter to go on from, is fetched from the Hub."""
    parent = spec.resume_from or "/"
    return not (spec.model.id.startswith("/") and parent.startswith("/"))


def arguments(spec: ResolvedSpec, cell: Cell) -> list[str]:
    """Of `docker run` or `podman run`; the same for both but for the flags of user and GPUs."""
    network = needs_network(spec)
    passed = PASSED_ON + (PASSED_ON_WITH_NETWORK if network else ())
    return [
        *("run", "--detach", "--name", cell.name, "--label", f"loralift.run={spec.run_id}"),
        *("--read-only", "--tmpfs", f"/tmp:rw,exec,nosuid,nodev,size={TMP_BYTES}"),
        *("--security-opt", "no-new-privileges", "--cap-drop", "ALL", *cell.user),
        *("--pids-limit", str(PIDS), "--shm-size", str(SHM_BYTES)),
        # no swap: a job that swaps is slower than one that fails
        *("--memory", str(cell.memory_bytes), "--memory-swap", str(cell.memory_bytes)),
        *(() if network else ("--network", "none")),
        *cell.gpus,
        *(f"--mount={mount}" for mount in _mounts(spec, cell)),
        *("--workdir", str(cell.work)),
        *(f"--env={name}={value}" for name, value in _settings(cell)),
        *(f"--env={name}" for name in passed if name in cell.environment),
        *("--entrypoint", PYTHON, cell.image, "-P", "-m", "jobs.contained", cell.module),
    ]


def _mounts(spec: ResolvedSpec, cell: Cell) -> Iterator[str]:
    yield quoted_mount(type="bind", source=cell.work, target=cell.work)
    read = outermost(_read(spec))
    for path in read:
        yield quoted_mount(type="bind", source=path, target=path, readonly=True)
    for source, target in _linked(read):
        yield quoted_mount(type="bind", source=source, target=target, readonly=True)
    if cell.token is not None:
        yield quoted_mount(type="bind", source=cell.token, target=TOKEN_FILE, readonly=True)


def _settings(cell: Cell) -> Iterator[tuple[str, str]]:
    yield "HOME", "/tmp"
    yield "USER", "loralift"  # torch asks for it, and the number has no name in the image
    yield "HF_HOME", str(cell.work / "hub")
    if cell.token is not None:
        yield "HF_TOKEN_PATH", TOKEN_FILE
    if cell.gpu_uuids:
        yield "LORALIFT_GPUS", ",".join(cell.gpu_uuids)


def _read(spec: ResolvedSpec) -> Iterator[Path]:
    """The files and folders of this machine that the job reads."""
    named = [getattr(spec.data, key) for key in DATA_FILES]
    named += [spec.eval.golden, spec.eval.schema, spec.model.id, spec.resume_from]
    for name in named:
        if name is not None and name.startswith("/"):
            yield Path(name)


def _linked(read: list[Path]) -> Iterator[tuple[Path, Path]]:
    """The files that links in those folders lead to, each where its link says that it is: the Hub's
    cache keeps a model's files apart from its names."""
    for folder in filter(Path.is_dir, read):
        for path in sorted(folder.iterdir()):
            if path.is_symlink():
                said = Path(os.path.normpath(folder / os.readlink(path)))
                if not any(said.is_relative_to(other) for other in read):
                    yield path.resolve(), said


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Each path once, without those below another."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept
