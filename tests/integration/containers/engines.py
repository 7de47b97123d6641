"""A Docker daemon and Podman for the tests alone: own sockets, own storage, nothing of the user's.

What is dear to make is kept where the tests' environments are: wheels and the engines' images.
"""

import contextlib
import hashlib
import http.server
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from launcher import paths
from launcher.executors import environment, image

# command → Debian's package of it
NEEDED = {
    "/usr/bin/docker": "docker.io",
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/podman": "podman",
    "/usr/sbin/runc": "runc",
    "/usr/bin/newuidmap": "uidmap",
}
BASE = "debian-packed:2"
HOOK = "nvidia-container-runtime-hook"


def lacks() -> str | None:
    """What stands in the way of containers here, and the way out; None where nothing does."""
    packages = sorted({package for path, package in NEEDED.items() if not Path(path).exists()})
    if packages:
        return f"container engines are not installed: apt-get install {' '.join(packages)}"
    if not Path("/usr/share/python-wheels").is_dir():
        return "Debian's own Python is not installed: apt-get install python3-venv"
    if os.geteuid() != 0:
        return "a Docker daemon is started by root alone"
    return None


def kept() -> Path:
    return paths.environments_folder().parent / "containers"


class Docker:
    """A daemon of our own: no bridge, no iptables."""

    name = "docker"

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self._home = home
        self._daemon: subprocess.Popen[bytes] | None = None
        self.variables = {"DOCKER_HOST": f"unix://{folder}/sock", "PATH": f"/usr/bin:{_path()}"}

    def start(self, *first_on_path: Path, options: Sequence[str] = ()) -> None:
        """Returns when it answers. With what it may start first on its PATH."""
        options = [*options, f"--data-root={self._home}", f"--exec-root={self._folder}/exec"]
        options += ["--pidfile", f"{self._folder}/pid", "--host", self.variables["DOCKER_HOST"]]
        options += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        options += ["--default-ulimit", "nofile=20000:20000"]
        path = ":".join([*map(str, first_on_path), "/usr/sbin:/usr/bin:/sbin:/bin"])
        with (self._folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                ["/usr/sbin/dockerd", *options],
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while subprocess.run(self.command("version"), **self._quiet()).returncode:
            assert self._daemon.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd does not answer"
            time.sleep(0.1)

    def empty(self) -> None:
        """Remove what tests that failed have left in the storage, which is kept."""
        left = self.ask("ps", "--all", "--quiet").split()
        if left:
            self.ask("rm", "--force", *left)

    def stop(self) -> None:
        assert self._daemon is not None, "it was started"
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait(60)
        for folder in (self._folder, self._home):  # a daemon mounts its own folder onto itself
            unmount(folder)

    def kill(self) -> None:
        """The daemon alone, as a crash does: its containers go on."""
        assert self._daemon is not None, "it was started"
        self._daemon.kill()
        self._daemon.wait(30)

    def command(self, *arguments: str) -> list[str]:
        return ["/usr/bin/docker", *arguments]

    def ask(self, *arguments: str) -> str:
        return ask(self.command(*arguments), self.variables)

    def _quiet(self) -> dict[str, object]:
        return {"env": {**os.environ, **self.variables}, "capture_output": True}


class Podman:
    """It has no daemon; storage and settings of our own."""

    name = "podman"

    def __init__(self, folder: Path, home: Path) -> None:
        self._home = home
        storage, settings = folder / "storage.conf", folder / "containers.conf"
        storage.write_text(
            f'[storage]\ndriver="overlay"\ngraphroot="{home}/graph"\nrunroot="{folder}/run"\n'
        )
        # A test machine is often a container without CAP_SYS_RESOURCE, and without systemd.
        settings.write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        self.variables = {
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_CONF": str(settings),
            "PATH": f"/usr/bin:{_path()}",
        }

    def stop(self) -> None:
        self.ask("rm", "--all", "--force")
        unmount(self._home)

    def ask(self, *arguments: str) -> str:
        return ask(["/usr/bin/podman", *arguments], self.variables)


def ask(command: list[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def wheels() -> Path:
    """All that the lock needs, by this machine's own pip: kept by the lock's content."""
    lock = environment.lock_file()
    folder = kept() / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not (folder / "ready").exists():
        python = environment.training_python(None, print)
        download = [str(python), "-m", "pip", "download", "--quiet", "--dest", str(folder)]
        subprocess.run([*download, "--requirement", str(lock)], check=True)
        (folder / "ready").touch()
    return folder


@contextlib.contextmanager
def index(folder: Path, settings: Path) -> Iterator[Path]:
    """A package index on loopback, and pip's settings that name it: as of a company's own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """A test's output is its failures."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as own:
        thread = threading.Thread(target=own.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{own.server_port}/"
        settings.write_text(f"[global]\nno-index = true\nfind-links = {address}\n")
        try:
            yield settings
        finally:
            own.shutdown()
            thread.join()


def carry_over(docker: Docker, load: list[str], variables: Mapping[str, str], cwd: Path) -> None:
    """This version's image from Docker to whom `load` asks, with those variables."""
    save = docker.command("save", image.reference())
    environ = {**os.environ, **docker.variables}
    with subprocess.Popen(save, env=environ, stdout=subprocess.PIPE) as saving:
        done = subprocess.run(
            load,
            cwd=cwd,
            env={**os.environ, **variables},
            stdin=saving.stdout,
            capture_output=True,
            text=True,
        )
    assert (saving.returncode, done.returncode) == (0, 0), done.stderr[-2000:]


def forget_other_images(engine: Docker | Podman) -> None:
    """Of earlier versions: the storage is kept, and each is gigabytes."""
    named = engine.ask(
        "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "dangling=false"
    )
    for name in named.splitlines():
        if image.NAME in name and not name.endswith(image.reference()):
            engine.ask("rmi", "--force", name)


def unmount(folder: Path) -> None:
    """What an engine that was ended left mounted there and below, the innermost first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted(filter(lambda m: f"{m}/".startswith(f"{folder}/"), mounted), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=True)


def _path() -> str:
    return os.environ["PATH"]
