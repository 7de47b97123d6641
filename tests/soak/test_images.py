"""Both targets of the training image on a Debian made by mmdebstrap, built by both engines, the
`cloud` one pushed to a real registry. Prints sizes and times for docs/LOG.md.

    pytest tests/soak/test_images.py -s
"""

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.executors import image
from tests.integration.containers import engines
from tests.integration.containers.engines import Docker, Podman
from tests.integration.containers.launching import ContainerCommand
from tests.integration.slurm.machine import free_port, until

BASE = "debian-minbase:1"
# What SkyPilot 0.14.1 installs on RunPod where it is missing, and run.sh's and its own commands.
COMMANDS = "sshd ssh-keygen rsync curl patch sudo ps nc bash flock sha256sum python3 apt-get"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    missing = engines.lacks()
    assert missing is None, missing
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    archive = place / "base.tar"
    packages = "--include=ca-certificates,python3-venv"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(archive)]
    subprocess.run(command, check=True)
    return archive


@pytest.fixture(scope="module")
def docker(place: Path) -> Iterator[Docker]:
    folder = place / "docker"
    folder.mkdir()
    daemon = Docker(folder, folder / "data")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def podman(place: Path) -> Iterator[Podman]:
    folder = place / "podman"
    folder.mkdir()
    engine = Podman(folder, folder)
    yield engine
    engine.stop()


def built(engine: Docker | Podman, base: Path, place: Path, target: str) -> str:
    """The image's name, once it is built; prints how long that took and how large it is."""
    engine.ask("import", str(base), BASE)
    launch = ContainerCommand(place, engine.variables)
    begun = time.monotonic()
    with engines.index(engines.wheels(), place / "pip.conf") as settings:
        flags = ("--engine", engine.name, "--target", target, "--pip-conf", str(settings))
        named = BASE if engine.name == "docker" else f"localhost/{BASE}"
        done = launch(
            *("images", "build", *flags, "--base", named, "--network", "host"), timeout=3000
        )
    assert done.returncode == 0, done.stderr[-3000:]
    name = done.stdout.split()[0]
    size = int(engine.ask("image", "inspect", "--format", "{{.Size}}", name))
    print(f"{engine.name} {target}: {time.monotonic() - begun:.0f} s, {size / 1e9:.2f} GB")
    return name


def test_podman_builds_it_too(podman: Podman, base: Path, place: Path) -> None:
    name = built(podman, base, place, "local")
    run = ("run", "--rm", "--read-only", "--network", "none", "--entrypoint", "sh", name, "-c")
    assert podman.ask(*run, "id -u") == "65534"
    labels = json.loads(podman.ask("image", "inspect", "--format", "{{json .Labels}}", name))
    assert labels[image.CONTENT_LABEL] == image.content()


def test_cloud_has_what_skypilot_asks_for(docker: Docker, base: Path, place: Path) -> None:
    built(docker, base, place, "local")
    name = built(docker, base, place, "cloud")
    run = ("run", "--rm", "--network", "none", "--entrypoint", "bash", name, "-c")
    assert docker.ask(*run, "id -u") == "0"
    missing = f"for c in {COMMANDS}; do command -v $c >/dev/null || echo $c; done"
    assert docker.ask(*run, missing) == ""
    assert docker.ask(*run, "ls /etc/ssh/ssh_host_* /var/lib/apt/lists/*_Packages; true") == ""


def test_a_pushed_image_is_pinned_by_its_digest(docker: Docker, base: Path, place: Path) -> None:
    built(docker, base, place, "cloud")
    port = free_port()
    settings = place / "registry.yml"
    settings.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {place}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    serve = ["docker-registry", "serve", str(settings)]
    with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as registry:
        try:
            until("the registry", lambda: answers(port), 30)
            launch = ContainerCommand(place, docker.variables)
            named = f"127.0.0.1:{port}/me/train:1"
            done = launch("images", "push", named, "--target", "cloud", timeout=1200)
            assert done.returncode == 0, done.stderr
            pinned = done.stdout.strip()
            assert pinned.startswith(f"127.0.0.1:{port}/me/train@sha256:")
            docker.ask("rmi", "--force", named, pinned)
            docker.ask("pull", "--quiet", pinned)
            checked = launch("images", "check", pinned)
            assert checked.returncode == 0, checked.stdout
        finally:
            registry.terminate()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
