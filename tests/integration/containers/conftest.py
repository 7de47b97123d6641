"""Both engines with this version's image, for all tests that run a job in a container."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.executors import image
from tests.integration.command import Command
from tests.integration.containers import debian, engines
from tests.integration.containers.engines import Docker, Podman
from tests.integration.containers.launching import ContainerCommand, lay_out_data, short_run


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A short path for sockets; the kept storage is nobody else's meanwhile. Skips where this
    machine cannot run containers, unless REQUIRE_ALL is set."""
    missing = engines.lacks()
    if missing is not None:
        assert not os.environ.get("REQUIRE_ALL"), missing
        pytest.skip(missing)
    engines.kept().mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="containers-") as folder,
        open(engines.kept() / "lock", "w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


@pytest.fixture(scope="session")
def docker(place: Path, nvml: Path) -> Iterator[Docker]:
    """A running daemon that has the image, built by `launch images build` on a base of our own."""
    folder = place / "docker"
    folder.mkdir()
    daemon = Docker(folder, engines.kept() / "docker")
    daemon.start()
    try:
        daemon.empty()
        named = daemon.ask("images", "--quiet", image.reference())
        if not named:
            _build(daemon, place)
        engines.forget_other_images(daemon)
        yield daemon
    finally:
        daemon.stop()


def _build(daemon: Docker, place: Path) -> None:
    archive = place / "base.tar"
    debian.pack(archive)
    daemon.ask("import", str(archive), engines.BASE)
    archive.unlink()
    launch = ContainerCommand(place, daemon.variables)
    with engines.index(engines.wheels(), place / "pip.conf") as settings:
        flags = ("--engine", "docker", "--base", engines.BASE, "--network", "host")
        done = launch("images", "build", *flags, "--pip-conf", str(settings), timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{image.reference()} sha256:")


@pytest.fixture(scope="session")
def podman(place: Path, docker: Docker) -> Iterator[Podman]:
    """Podman with the same image, as it was built."""
    folder = place / "podman"
    folder.mkdir()
    engine = Podman(folder, engines.kept() / "podman")
    try:
        if not engine.ask("images", "--quiet", image.reference()):
            load = ["/usr/bin/podman", "load", "--quiet"]
            engines.carry_over(docker, load, engine.variables, folder)
        engines.forget_other_images(engine)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Docker | Podman:
    found: Docker | Podman = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def here(engine: Docker | Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process asks that engine, and keeps its runs in a folder of the test's own."""
    for name, value in engine.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture(scope="session")
def process_run(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Path, dict]:
    """The short run as a process: what it must be in a container too."""
    launch = Command(tmp_path_factory.mktemp("process"))
    folder, result, _ = short_run(launch, "reference", "--executor", "process")
    lay_out_data(launch)  # its probes have written there
    return folder, result
