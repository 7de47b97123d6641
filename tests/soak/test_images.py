"""Both targets of the training image on a Debian made by mmdebstrap, built by both engines, the
`cloud` one pushed to a real registry. Prints sizes and times for docs/LOG.md.

    pytest tests/soak/test_images.py -s
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.executors import image
from tests.integration.containers import engines
from tests.integration.containers.engines import Docker, Podman
from tests.integration.containers.launching import ContainerCommand
from tests.servers import registry

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
    with registry.running(place / "registry") as server:
        launch = ContainerCommand(place, docker.variables | server.environment)
        done = launch(
            "images", "push", f"{server.host}/me/train:1", "--target", "cloud", timeout=1200
        )
        assert done.returncode == 0, done.stderr
        pinned = done.stdout.strip()
        assert pinned.startswith(f"{server.host}/me/train@sha256:")
        checked = launch("images", "check", pinned)
        print(checked.stdout)
        assert checked.returncode == 0, checked.stdout
        states = [line.split()[1] for line in checked.stdout.splitlines()[2:]]
        assert states == ["ok"] * 5
        docker.ask("rmi", "--force", f"{server.host}/me/train:1", pinned)
        docker.ask("pull", "--quiet", pinned)
