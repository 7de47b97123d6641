"""SkyPilot as the cluster's client: a home and an API server of its own."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from launcher import paths
from launcher.catalog.refresh import VARIABLE
from tests.integration.slurm.nodes import NODES, Ports
from tests.servers.ports import free_port
from tests.servers.unix_users import SYSTEM_PATH

# How long a job may wait for a node before SkyPilot tries the next offer. Assumption.
PROVISION_TIMEOUT_SECONDS = 30
_PATCHED = Path(__file__).with_name("patched")
_QUEUE_PORT = 50_011 - 46_580  # SkyPilot 0.14.1: how far its queue's port is from the server's


class Client:
    """What runs SkyPilot 0.14.1 with a private home."""

    def __init__(self, python: str, home: Path, cluster: str, managed_jobs: bool) -> None:
        self.python = python
        self.home = home
        self.cluster = cluster
        self._managed_jobs = managed_jobs
        # Names are suffixed with it, and a folder in /tmp is: eight hexadecimal digits.
        self.user_id = hashlib.sha256(str(home).encode()).hexdigest()[:8]

    def program(self, name: str) -> Path:
        return Path(self.python).with_name(name)

    @staticmethod
    def free_port() -> int:
        """A port whose companion, the request queue's, is free as well."""
        return free_port(lambda port: 50_000 + (port + _QUEUE_PORT - 50_000) % 10_000)

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("SKYPILOT_", "LORALIFT_", "SLURM_", "XDG_", "VIRTUAL_ENV")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return kept | self.settings()

    def settings(self) -> dict[str, str]:
        """What makes a process this client."""
        return {
            "HOME": str(self.home),
            "PATH": f"{Path(self.python).parent}:{SYSTEM_PATH}",
            "TZ": "UTC",
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "SKYPILOT_API_SERVER_LOCAL_PORT": (self.home / "port").read_text().strip(),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKYPILOT_USER_ID": self.user_id,
            "TMPDIR": str(self.home / "tmp"),
            VARIABLE: self.python,
        }

    def start(self, ports: Ports, user: str, key: Path, scratch: Path) -> None:
        """Write SkyPilot's files, and return when its API server answers."""
        self._write("port", str(ports.api))
        ssh = {"HostName": "127.0.0.1", "Port": ports.sshd, "User": user}
        ssh |= {"IdentityFile": key, "IdentitiesOnly": "yes"}
        lines = [f"Host {self.cluster}", *(f"  {name} {value}" for name, value in ssh.items())]
        self._write(".slurm/config", *lines)
        prices = {node.gpu: node.usd_per_gpu_hour for node in NODES if node.gpu}
        slurm = {
            "provision_timeout": PROVISION_TIMEOUT_SECONDS,
            "pricing": {"cpu": 0.01, "memory": 0.001, "accelerators": prices},
            "cluster_configs": {self.cluster: {"tmpdir": str(scratch)}},
        }
        # on: no machine for managed jobs' sake, but their controllers beside every server
        jobs = {"controller": {"consolidation_mode": self._managed_jobs}}
        self._write(".sky/config.yaml", yaml.safe_dump({"slurm": slurm, "jobs": jobs}))
        # SkyPilot takes no accelerator that this list has not.
        listed = [f"{name},['AWS']" for name in prices]
        self._write(".sky/catalogs/v8/common/accelerators.csv", "AcceleratorName,Clouds", *listed)
        self._share_environments()
        (self.home / "tmp").mkdir()
        server = f"http://127.0.0.1:{ports.api}"
        also = {"PYTHONPATH": str(_PATCHED), "LORALIFT_TEST_API_SERVER": server}
        self._command([str(self.program("sky")), "api", "start"], also)

    def remove(self) -> None:
        """What SkyPilot keeps outside its home and TMPDIR: ssh's sockets."""
        shutil.rmtree(f"/tmp/sky_ssh_{self.user_id}", ignore_errors=True)

    def sky(self, program: str, *arguments: str, timeout: float = 600) -> str:
        """What a Python program prints that runs in SkyPilot's environment, as this client."""
        return self._command([self.python, "-c", program, *arguments], {}, timeout)

    def clusters(self) -> list[str]:
        """Names of the clusters that SkyPilot still knows."""
        found: Any = json.loads(self.sky(_NAMES).splitlines()[-1])
        return list(found)

    def _write(self, name: str, *lines: str) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, ""]))

    def _share_environments(self) -> None:
        """The launcher in this home finds the environments that are kept already."""
        kept = paths.environments_folder()
        kept.mkdir(parents=True, exist_ok=True)
        seen = self.home / ".cache" / "loralift" / "envs"
        seen.parent.mkdir(parents=True)
        seen.symlink_to(kept)

    def _command(self, command: Sequence[str], also: dict[str, str], timeout: float = 600) -> str:
        environment = {k: v for k, v in self.environment.items() if k != "PYTHONPATH"} | also
        done = subprocess.run(
            command,
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-4000:]
        return done.stdout


_NAMES = """
import json, sky
print(json.dumps([record["name"] for record in sky.get(sky.status())]))
"""
