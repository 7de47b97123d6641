"""The cluster's daemons: munged, sshd, slurmctld and the slurmds, and Slurm's commands."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.integration.slurm import machine
from tests.integration.slurm.nodes import NODES
from tests.servers.ports import is_free
from tests.servers.unix_users import SYSTEM_PATH


class Daemons:
    """Programs that outlive this process and keep everything under one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": SYSTEM_PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "TZ": "UTC",  # Slurm writes times in its own zone
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start_munged(self) -> None:
        """What Slurm's parts trust each other by, with a key of its own."""
        folder = self.folder / "munge"
        folder.mkdir()
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "pid", "seed", "log")]
        socket = folder / "socket"
        self._start("munged", "--foreground", f"--socket={socket}", *files, user="munge")
        machine.until("munged", socket.exists, 20)

    def start_slurm(self) -> None:
        """Returns when every node is idle."""
        self._start("slurmctld", "-D")
        for node in NODES:
            self._start("slurmd", "-D", "-N", node.name, log=f"slurmd-{node.name}")
        machine.until("idle nodes", lambda: set(self.states().values()) == {"idle"}, 60)

    def start_sshd(self, port: int, user: str, given: Mapping[str, str]) -> Path:
        """Let one user in, whose every process is `given` variables; returns the private key."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd will not start without it
        folder = self.folder / "ssh"
        folder.mkdir()
        for key in ("host", "client"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(make, check=True)
        variables = " ".join(f'"{name}={value}"' for name, value in given.items())
        lines = [
            f"Port {port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {folder}/host",
            f"PidFile {folder}/pid",
            f"AllowUsers {user}",
            f"AuthorizedKeysFile {folder}/client.pub",
            "StrictModes no",  # it trusts no file below a folder that all may write, as /tmp
            "PasswordAuthentication no",
            "UsePAM no",
            "MaxSessions 100",  # SkyPilot sends its commands through few connections, many at once
            "MaxStartups 100",
            f"SetEnv {variables}",
        ]
        (folder / "sshd_config").write_text("\n".join([*lines, ""]))
        self._start("sshd", "-D", "-e", "-f", str(folder / "sshd_config"))
        machine.until("sshd", lambda: not is_free(port), 20)
        return folder / "client"

    def command(self, name: str, *arguments: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            [machine.program(name), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def states(self) -> dict[str, str]:
        """Slurm's word for the state of each node; empty where no slurmctld answers."""
        try:
            said = self.command("sinfo", "--noheader", "--Node", "--format=%N %t")
        except AssertionError:
            return {}
        return dict(line.split() for line in said.splitlines())

    def reap(self) -> None:
        """After they were ended: let none that this process started stay a zombie."""
        for daemon in self._started:
            daemon.wait(10)

    def _start(
        self, name: str, *arguments: str, log: str | None = None, user: str | None = None
    ) -> None:
        with (self.folder / "log" / f"{log or name}.out").open("w") as output:
            daemon = subprocess.Popen(
                [machine.program(name), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=user,
            )
        self._started.append(daemon)
