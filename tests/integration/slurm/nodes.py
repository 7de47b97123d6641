"""The nodes of the cluster, and slurm.conf for them."""

import socket
from pathlib import Path
from typing import NamedTuple

from tests.integration.slurm import machine


class Node(NamedTuple):
    """One slurmd. SkyPilot sees only the first kind of GPU of a node: one node for each."""

    name: str
    gpu: str = ""
    count: int = 0
    usd_per_gpu_hour: float = 0.0

    @property
    def partition(self) -> str:
        return self.name


# Prices are what some provider asked for such a card in November 2026: only their order matters.
NODES = (
    Node("cpu"),
    Node("rtx4090", "RTX4090", 2, 0.74),
    Node("a10g", "A10G", 1, 1.01),
    Node("a100", "A100", 1, 2.93),
    Node("a100-80gb", "A100-80GB", 8, 1.39),
)
CPUS, MEMORY_MIB = 128, 524_288  # of each node; Slurm is told to believe it


class Ports(NamedTuple):
    slurmctld: int
    slurmd: tuple[int, ...]
    sshd: int
    api: int


def write_configuration(folder: Path, cluster: str, ports: Ports) -> Path:
    """slurm.conf and gres.conf for daemons that keep everything under `folder`."""
    host, address = socket.gethostname().split(".")[0], machine.address()
    lines = [
        f"ClusterName={cluster}",
        f"SlurmctldHost={host}({address})",
        f"SlurmctldPort={ports.slurmctld}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",  # listen on that address alone
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "JobCompType=jobcomp/filetxt",
        f"JobCompLoc={folder}/completed.txt",
        "ReturnToService=1",  # a node that did not answer comes back; one taken down by hand stays
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/%n.pid",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/%n.log",
        "SlurmdParameters=config_overrides",  # more CPUs and memory than there are
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "GresTypes=gpu",
    ]
    gres = ["AutoDetect=off"]
    for node, port in zip(NODES, ports.slurmd, strict=True):
        has = f" Gres=gpu:{node.gpu}:{node.count}" if node.gpu else ""
        lines.append(
            f"NodeName={node.name} NodeHostname={host} NodeAddr={address} Port={port}"
            f" CPUs={CPUS} RealMemory={MEMORY_MIB}{has} State=UNKNOWN"
        )
        lines.append(
            f"PartitionName={node.partition} Nodes={node.name} State=UP"
            f" Default={'YES' if node is NODES[0] else 'NO'} MaxTime=1-00:00:00"
        )
        (folder / "spool" / node.name).mkdir(parents=True)
        # Without a file for each, slurmd 22.05 counts no GPU and the node is invalid.
        for index in range(node.count):
            device = folder / "devices" / f"{node.name}-{index}"
            device.parent.mkdir(exist_ok=True)
            device.touch()
            gres.append(f"NodeName={node.name} Name=gpu Type={node.gpu} File={device}")
    (folder / "gres.conf").write_text("\n".join([*gres, ""]))
    configuration = folder / "slurm.conf"
    configuration.write_text("\n".join([*lines, ""]))
    return configuration
