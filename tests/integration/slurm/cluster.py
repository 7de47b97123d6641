"""A Slurm cluster on this machine, for SkyPilot to launch real jobs on.

One slurmctld, one slurmd for each kind of GPU, a munged and an sshd of its own, all on free ports
of loopback with everything they keep under one folder, and a Unix user of its own that jobs run
as. The GPUs are pretended; Slurm hands them out as if they were there.
"""

import os
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.integration.slurm import machine, user
from tests.integration.slurm.client import Client
from tests.integration.slurm.nodes import NODES, Ports, write_configuration

NAME = "local"  # as SkyPilot knows the cluster: `infra: slurm/local`
_PREFIX = "loralift-slurm-"
# Every process of a job has these. Its GPUs are pretended: train on the CPU, on one core.
JOB_ENVIRONMENT = {"LORALIFT_PRETEND_GPU": "1", "OMP_NUM_THREADS": "1"}


class Held(NamedTuple):
    """Slurm's record of a job that had a node."""

    job: int
    name: str  # SkyPilot's cluster name, with its own suffix
    node: str
    state: str
    start: datetime
    end: datetime | None  # still held


class SlurmCluster:
    """A context manager. Everything it makes is named after, or lies in, its `folder`."""

    def __init__(self, sky_python: str, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.user = "loralift-" + self.folder.name.removeprefix(_PREFIX)[:12]
        self.home = self.folder / "home"
        self.client = Client(sky_python, self.folder / "client", NAME)
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What the launcher and SkyPilot are run with, to use this cluster and no other."""
        return self.client.environment

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when all nodes are idle and the API server answers; else leaves nothing."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)  # the cluster's user passes through
        for name in ("log", "run", "state", "tmp"):
            (self.folder / name).mkdir()
        user.add(self.user, self.home)
        machine.name_hosts((node.name for node in NODES), self.user)
        ports = Ports(
            slurmctld=machine.free_port(),
            slurmd=tuple(machine.free_port() for _ in NODES),
            sshd=machine.free_port(),
            api=self.client.free_port(),
        )
        write_configuration(self.folder, NAME, ports)
        self._start_munged()
        self._start_sshd(ports.sshd)
        user.place_uv_installer(
            self.folder, self.home, self.client.program("uv"), user.system_python()
        )
        (self.folder / "tmp").chmod(0o1777)
        user.give(self.user, self.home)
        self._run("slurmctld", "-D", "-c")
        for node in NODES:
            self._run("slurmd", "-D", "-N", node.name, log=f"slurmd-{node.name}")
        machine.until("idle nodes", lambda: set(self.states().values()) == {"idle"}, 60)
        self.client.start(ports, self.user, self.folder / "ssh" / "client", self.folder / "tmp")

    def stop(self) -> None:
        """End jobs, daemons and the API server; remove the user and every file."""
        if (self.folder / "slurm.conf").exists():
            self._command("scancel", f"--user={self.user}", check=False)
        machine.end(self.processes_left)
        for daemon in self._daemons:
            daemon.wait(timeout=20)
        machine.forget_hosts(self.user)
        user.remove(self.user)
        self.client.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sky(self, program: str, *arguments: str, timeout: float = 600) -> str:
        """What a Python program prints that runs in SkyPilot's environment, as the client."""
        return self.client.sky(program, *arguments, timeout=timeout)

    def sky_clusters(self) -> list[str]:
        """Names of the clusters that SkyPilot still knows."""
        return self.client.clusters()

    def processes_left(self) -> dict[int, str]:
        """Commands of processes that belong to this cluster or its client, by process id."""
        return machine.processes(user.uid(self.user), str(self.folder))

    def states(self) -> dict[str, str]:
        """Slurm's word for the state of each node: idle, mix, drain, down, …"""
        said = self._command("sinfo", "--noheader", "--Node", "--format=%N %t", check=False)
        return dict(line.split() for line in said.splitlines())

    def drain(self, node: str) -> None:
        """Nothing new starts on it; what runs goes on."""
        self._update(node, "DRAIN", "drained by a test")

    def resume(self, node: str) -> None:
        self._update(node, "RESUME")

    def down(self, node: str) -> None:
        """The node is lost, and what ran on it."""
        self._update(node, "DOWN", "lost by a test")

    def up(self, node: str) -> None:
        self._update(node, "RESUME")

    def held(self) -> list[Held]:
        """Which job had which node from when to when, in order of its start."""
        completed = self.folder / "completed.txt"
        lines = completed.read_text().splitlines() if completed.exists() else []
        records = [*map(_fields, lines), *map(_fields, self._running())]
        found = {int(record["JobId"]): record for record in reversed(records)}
        return sorted(
            (
                Held(job, r.get("Name") or r["JobName"], r["NodeList"], r["JobState"],
                     _time(r["StartTime"]), _time(r["EndTime"]) if "Name" in r else None)
                for job, r in found.items()
                if r["NodeList"] not in ("", "(null)", "None")
            ),
            key=lambda held: held.start,
        )  # fmt: skip

    def _running(self) -> list[str]:
        said = self._command("scontrol", "show", "job", "--oneliner")
        return [line for line in said.splitlines() if "JobId=" in line]

    def give_training_environment(self, kept: Path, target: Path) -> None:
        """Put a copy of the kept training environment where a job's set-up looks for one."""
        target.parent.mkdir(parents=True, exist_ok=True)
        user.copy_environment(kept, target, user.system_python())
        (target / "ready").touch()  # as sky/setup.sh marks one that is whole
        for made in (target, *target.parents):
            if made == self.home or self.home not in made.parents:
                break
            shutil.chown(made, self.user, self.user)

    def _update(self, node: str, state: str, reason: str = "") -> None:
        why = [f"Reason={reason}"] if reason else []
        self._command("scontrol", "update", f"NodeName={node}", f"State={state}", *why)

    def _slurm_environment(self) -> dict[str, str]:
        # Slurm writes times in its own zone, and gives its jobs the environment that it has.
        return {
            "PATH": machine.SYSTEM_PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "TZ": "UTC",
        }

    def _command(self, name: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [machine.program(name), *arguments],
            env=self._slurm_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def _run(
        self, name: str, *arguments: str, log: str | None = None, user: str | None = None
    ) -> None:
        """Start a daemon that outlives this process: only stop() ends it."""
        with (self.folder / "log" / f"{log or name}.out").open("w") as output:
            started = subprocess.Popen(
                [machine.program(name), *arguments],
                env=self._slurm_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
            )
        self._daemons.append(started)

    def _start_munged(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir()
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        for path in (folder / "key", folder):
            shutil.chown(path, "munge", "munge")
        places = {name: f"--{name}-file={folder}/{name}" for name in ("key", "pid", "seed", "log")}
        self._run(
            "munged", "--foreground", f"--socket={folder}/socket", *places.values(), user="munge"
        )
        machine.until("munged", (folder / "socket").exists, 20)

    def _start_sshd(self, port: int) -> None:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's, and it wants it there
        folder = self.folder / "ssh"
        folder.mkdir()
        for key in ("host", "client"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(made, check=True)
        shutil.copy(folder / "client.pub", folder / "authorized_keys")
        # Whatever sshd starts, sbatch and so every job with it, has these.
        given = (
            self._slurm_environment()
            | JOB_ENVIRONMENT
            | {"TMPDIR": f"{self.folder}/tmp"}
            | user.registry_settings()
        )
        quoted = " ".join(f'"{key}={value}"' for key, value in given.items())
        (folder / "sshd_config").write_text(
            f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AllowUsers {self.user}
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
PasswordAuthentication no
UsePAM no
MaxSessions 100
MaxStartups 100:30:200
SetEnv {quoted}
Subsystem sftp internal-sftp
"""
        )
        self._run("sshd", "-D", "-e", "-f", str(folder / "sshd_config"))
        machine.until("sshd", lambda: not machine.is_free(port), 20)


def _fields(line: str) -> dict[str, str]:
    """A line of Slurm's `Name=value` pairs; a value may hold blanks."""
    return dict(re.findall(r"(\w+)=(.*?)(?= \w+=|\s*$)", line))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
