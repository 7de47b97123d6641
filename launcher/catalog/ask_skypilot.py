"""Runs in SkyPilot's environment, as a program of its own: where may it rent, and what have the
clusters that have no price list?

python -c THIS RESULT_FILE PROVIDER ...

The catalogs of enabled providers are fetched anew by SkyPilot's own code, which leaves a file that
was placed by hand as it is. Writes {"version", "enabled", "disabled", "unread", "shares"} to
RESULT_FILE; "shares" holds launcher.catalog.clusters.Share.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sky
from sky import check
from sky.catalog import common
from sky.clouds import SSH, Kubernetes, cloud
from sky.provision.kubernetes import utils as kubernetes
from sky.provision.slurm import utils as slurm
from sky.utils import registry

# States of a node (sinfo's %t, marks cut off) in which it takes no job.
AWAY = ("down", "drain", "drng", "fail", "failg", "inval", "maint", "unk")
MARKS = "*~#!%$@^-"  # not responding, powered down, booting, ... (man sinfo, NODE STATE CODES)
COUNTS = (1, 2, 4, 8)
# What SkyPilot asks of a node where a task says nothing (_DEFAULT_NUM_VCPUS_WITH_GPU and
# _DEFAULT_MEMORY_CPU_RATIO_WITH_GPU of sky/clouds/slurm.py and kubernetes.py).
NO_ROOM = "SkyPilot saw no room for it: 4 CPUs and 16 GiB a GPU (it looks anew each half hour)"


def main(result: str, names: list[str]) -> None:
    compute = cloud.CloudCapability.COMPUTE
    answers = check.check_capability(compute, quiet=True, clouds=names)
    enabled = sorted({name.lower() for found in answers.values() for name in found})
    unread: dict[str, str] = {}
    found = {
        "version": sky.__version__,
        "enabled": enabled,
        "disabled": {name: why_not(name) for name in names if name not in enabled},
        "shares": [share for name in enabled for share in known_of(name, unread)],
        "unread": unread,
    }
    Path(result).write_text(json.dumps(found))


def known_of(name: str, unread: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What a cluster has; of another provider nothing, but its catalog is brought up to date."""
    if name not in CLUSTERS:
        with noted(unread, name):
            len(common.read_catalog(f"{name}/vms.csv", pull_frequency_hours=0))
        return
    for cluster in CLUSTERS[name][0]():
        with noted(unread, f"{name}/{cluster}"):
            yield from shares(name, cluster)


@contextmanager
def noted(unread: dict[str, str], what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        unread[what] = one_line(error)


def why_not(name: str) -> str:
    """SkyPilot's reason in one line."""
    where = registry.CLOUD_REGISTRY.from_str(name)
    try:
        _, reason = where.check_credentials(cloud.CloudCapability.COMPUTE)
    except Exception as error:
        reason = str(error)
    if isinstance(reason, dict):  # one for each context of a cluster
        reason = "; ".join(f"{context}: {why}" for context, why in reason.items())
    return one_line(reason or "not allowed by ~/.sky/config.yaml")


def one_line(text: object) -> str:
    return " ".join(str(text).split())


# --- what clusters have -------------------------------------------------------------------------


class Node(NamedTuple):
    partition: str
    gpu: str  # as SkyPilot spells it; "": none
    gpus: int
    cpus: float
    gib: float
    up: bool


def slurm_nodes(cluster: str) -> Iterator[Node]:
    """sinfo's nodes as they are now: SkyPilot's list with the jobs on them needs its extra `slurm`,
    and the one that it checks a task against is kept for half an hour."""
    partitions = slurm.get_partitions(cluster)
    for node in slurm._get_slurm_inventory_client(cluster).info_nodes():
        gpu, gpus = slurm.get_gpu_type_and_count(node.gres)
        # sinfo marks the default partition by a star.
        partition = node.partition
        if partition not in partitions:
            partition = partition.removesuffix("*")
        spelled = slurm.canonicalize_raw_gpu_name(gpu) if gpu else "GPU"
        up = node.state.rstrip(MARKS) not in AWAY
        yield Node(partition, spelled if gpus else "", gpus, node.cpus, node.memory_gb, up)


def kubernetes_nodes(context: str) -> Iterator[Node]:
    """Nodes without GPUs are left out: the system's own pods hold a part of each."""
    for node in kubernetes.get_kubernetes_node_info(context).node_info_dict.values():
        gpus = node.total.get("accelerator_count", 0)
        if node.accelerator_type and gpus:
            up = node.is_ready and not node.is_cordoned
            cpus, gib = node.cpu_count or 0.0, node.memory_gb or 0.0
            yield Node("", node.accelerator_type, gpus, cpus, gib, up)


def pools() -> list[str]:
    return [context.removeprefix("ssh-") for context in SSH.existing_allowed_contexts()]


CLUSTERS: dict[str, tuple[Callable[[], list[str]], Callable[[str], Iterator[Node]]]] = {
    "kubernetes": (Kubernetes.existing_allowed_contexts, kubernetes_nodes),
    "slurm": (slurm.slurm_cluster_names, slurm_nodes),
    "ssh": (pools, lambda pool: kubernetes_nodes(f"ssh-{pool}")),
}


def shares(provider: str, cluster: str) -> Iterator[dict[str, Any]]:
    _, nodes_of = CLUSTERS[provider]
    groups = defaultdict(list)
    for node in nodes_of(cluster):
        # Nodes of a partition that have the same GPU stand together, others by their size.
        size = () if node.gpus else (node.cpus, node.gib)
        groups[node.partition, node.gpu, size].append(node)
    for (partition, gpu, _), nodes in sorted(groups.items()):
        most = max(node.gpus for node in nodes)
        for count in [n for n in COUNTS if n <= most] or [0]:
            having = [node for node in nodes if node.gpus >= count]
            yield {
                "provider": provider,
                "cluster": cluster,
                "partition": partition,
                "accelerator": gpu,
                "count": count,
                **priced(
                    "/".join(filter(None, (provider, cluster, partition))), gpu, count, having
                ),
            }


def priced(infra: str, gpu: str, count: int, having: Iterable[Node]) -> dict[str, Any]:
    """What SkyPilot's optimizer would reckon with for `count` GPUs, or a whole node without."""
    up = [node for node in having if node.up]
    least = min(up or having, key=lambda node: (node.cpus, node.gib))
    cpu_only = {"cpus": int(least.cpus), "memory": int(least.gib)}
    usd, refused = 0.0, "" if up else "its nodes take no jobs: down, drained or cordoned"
    if up:
        usd, refused = price(infra, {"accelerators": {gpu: count}} if count else cpu_only)
    return {
        "nodes": len(up),
        "node_cpus": least.cpus,
        "node_memory_gib": least.gib,
        "usd_per_hour": usd,
        "why_not": refused,
    }


def price(infra: str, wanted: dict[str, Any]) -> tuple[float, str]:
    """(dollars an hour, why SkyPilot does not take it)."""
    try:
        resources = sky.Resources(infra=infra, **wanted)
        found = resources.cloud.get_feasible_launchable_resources(resources)
    except Exception as error:
        return 0.0, one_line(error)
    if not found.resources_list:
        return 0.0, one_line(found.hint or NO_ROOM)
    return found.resources_list[0].get_cost(3600), ""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
