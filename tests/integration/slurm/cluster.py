"""A Slurm cluster on this machine, for real SkyPilot to launch real jobs on.

One slurmctld, one slurmd for each kind of GPU, a munged and an sshd of its own, all on free ports
of loopback with everything they keep under one folder, and a Unix user of its own that jobs run
as. The GPUs are pretended; Slurm hands them out as if they were there.
"""

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.slurm import machine, records, user
from tests.integration.slurm.client import Client
from tests.integration.slurm.daemons import Daemons
from tests.integration.slurm.nodes import NODES, Ports, write_configuration
from tests.servers import unix_users
from tests.servers.ports import free_port

NAME = "local"  # as SkyPilot knows the cluster: `infra: slurm/local`
FOLDERS = Path("/tmp")  # short, as a socket's path must be, and open to the cluster's user
# Every process of a job has these. Its GPUs are pretended: train on the CPU, on one core.
JOB_ENVIRONMENT = {"LORALIFT_PRETEND_GPU": "1", "OMP_NUM_THREADS": "1"}


class SlurmCluster:
    """A context manager. Everything it makes lies in a folder, or is named, after its `name`."""

    def __init__(
        self, sky_python: str, name: str | None = None, *, managed_jobs: bool = True
    ) -> None:
        self.user = f"loralift-{name or secrets.token_hex(4)}"
        self.folder = FOLDERS / f"{self.user}-slurm"
        self.home = self.folder / "home"
        self.client = Client(sky_python, self.folder / "client", NAME, managed_jobs)
        self._daemons = Daemons(self.folder)

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
        # What is undone below must be ours: a user or folder of this name would be another's.
        assert unix_users.uid(self.user) is None, f"there is a user {self.user} already"
        self.folder.mkdir()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End jobs, daemons and the API server; remove the user and every file."""
        with ExitStack() as steps:  # last first, whatever becomes of the others
            steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(unix_users.remove, self.user)
            steps.callback(machine.forget_hosts, self.user)
            steps.callback(self.client.remove)
            steps.callback(self._daemons.reap)
            steps.callback(machine.end, self.processes_left)

    @property
    def environment(self) -> dict[str, str]:
        """What the launcher and SkyPilot are run with, to use this cluster and no other."""
        return self.client.environment

    @property
    def shared(self) -> Path:
        """A folder that jobs see as well."""
        return self.folder / "tmp"

    def sky(self, program: str, *arguments: str, timeout: float = 600) -> str:
        """What a Python program prints that runs in SkyPilot's environment, as the client."""
        return self.client.sky(program, *arguments, timeout=timeout)

    def sky_clusters(self) -> list[str]:
        """Names of the clusters that SkyPilot still knows."""
        return self.client.clusters()

    def give_training_environment(self, kept: Path, target: Path) -> None:
        """Put a copy of the kept training environment where a job's set-up looks for one."""
        unix_users.copy_environment(kept, target, unix_users.system_python())
        shutil.copy(kept / "ready", target / "ready")
        for made in (target, *target.parents):
            if self.home not in made.parents:
                break
            shutil.chown(made, self.user, self.user)

    def states(self) -> dict[str, str]:
        """Slurm's word for the state of each node: idle, mix, drain, down, …"""
        return self._daemons.states()

    def drain(self, node: str) -> None:
        """Nothing new starts on it; what runs goes on."""
        self._update(node, "DRAIN")

    def resume(self, node: str) -> None:
        """Take it back from `drain`."""
        self._update(node, "RESUME")

    def down(self, node: str) -> None:
        """The node is lost, and what ran on it."""
        self._update(node, "DOWN")

    def up(self, node: str) -> None:
        """Take it back from `down`."""
        self._update(node, "RESUME")

    def held(self) -> list[records.Held]:
        """Which job had which node from when to when, by Slurm's own record, in order of start."""
        completed = self.folder / "completed.txt"
        lines = completed.read_text().splitlines() if completed.exists() else []
        known = self._daemons.command("scontrol", "show", "job", "--oneliner")
        return records.read(lines, known.splitlines())

    def processes_left(self) -> dict[int, str]:
        """Commands of processes that belong to this cluster or its client, by process id."""
        return machine.processes(unix_users.uid(self.user), f"{self.folder}/")

    def _start(self) -> None:
        self.folder.chmod(0o755)  # the cluster's user passes through
        for name in ("log", "run", "state", "tmp"):
            (self.folder / name).mkdir()
        scratch = self.shared
        scratch.chmod(0o1777)
        ports = Ports(
            slurmctld=free_port(),
            slurmd=tuple(free_port() for _ in NODES),
            sshd=free_port(),
            api=self.client.free_port(),
        )
        unix_users.add(self.user, self.home)
        user.place_uv_installer(
            self.folder / "bin", self.home, self.client.program("uv"), unix_users.system_python()
        )
        user.place_ps(self.folder / "bin")
        machine.name_hosts((node.name for node in NODES), self.user)
        write_configuration(self.folder, NAME, ports)
        self._daemons.start_munged()
        self._daemons.start_slurm()
        # Whatever sshd starts, sbatch and so every job with it, has these.
        given = self._daemons.environment | JOB_ENVIRONMENT | {"TMPDIR": str(scratch)}
        key = self._daemons.start_sshd(ports.sshd, self.user, given | user.registry_settings())
        self.client.start(ports, self.user, key, scratch)

    def _update(self, node: str, state: str) -> None:
        changed = [f"NodeName={node}", f"State={state}"]
        reason = [] if state == "RESUME" else ["Reason=a test"]
        self._daemons.command("scontrol", "update", *changed, *reason)
