"""Pure: Plan + sky/train.yaml → a SkyPilot task as text, the same for the same plan.

One task per offer: SkyPilot ranks alternatives by the hour, we by the finished job. The spec
travels in an environment variable, so the text is whole; its header has the command that takes
it as it is. It holds no secret.
"""

from datetime import datetime, timedelta
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import yaml

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.spec import ResolvedSpec
from jobs.spec.tables import extension
from launcher import paths
from launcher.catalog.providers import CLUSTERS, PROVIDERS
from launcher.errors import BadInput
from launcher.estimate.renting import DOWN_SECONDS, teardown
from launcher.planning.costs import deadline, disk_gib
from launcher.tracking import tracker_lock
from launcher.types import DATA_FILES, GIB, MICROUSD, Candidate, Estimate, Offer, Plan

TEMPLATE = "train.yaml"
GIVEN_MODEL = "./given_model"  # a base model's folder there; layout.MODEL is what is trained
# Whoever knows first that a machine will be taken makes this file there (jobs/notice.py).
NOTICE_FILE = "~/loralift/notice"
TRACKER_LOCK = "~/loralift/tracker.lock"  # what set-up adds for `--track`
_RUN = PurePosixPath("~/loralift/run")
# What SkyPilot asks a cluster for where a task does not say: 4 CPUs a GPU, 4 GiB a CPU
# (_DEFAULT_MEMORY_CPU_RATIO_WITH_GPU of sky/clouds/slurm.py and kubernetes.py, 0.14.1).
CLUSTER_GIB_A_GPU = 16
# When a managed job is started again: its machine is lost (SkyPilot sees to that by itself), or the
# job was told that it will be. What failed by its own fault, or reached its deadline, is not.
JOB_RECOVERY = {
    "strategy": "EAGER_NEXT_REGION",  # where one machine was taken back, the next one soon is
    "max_restarts_on_errors": 0,
    "recover_on_exit_codes": [EXIT_CODES["PREEMPTED"]],
}

HEADER = """\
# {run_id}: {gpu} on {provider}, rendered by launch for SkyPilot 0.14.
# The cap is held on the machine: by max_hourly_cost (a filter on the catalog's price), and from
# set-up's first line on by a watchdog that ends all at LORALIFT_DEADLINE, then by {then}.
# By hand: {by_hand}
"""


def task(
    plan: Plan,
    candidate: Candidate,
    *,
    store: str = "",
    secrets: tuple[str, ...] = (),
    left: Path | None = None,
    managed: bool = False,
    followed_hours: float = 0.0,
    files: dict[str, str] | None = None,
    template: Path | None = None,
) -> str:
    """The YAML task for one candidate; `store` is where results.sync brings the run, if anywhere.

    `secrets` are names of environment variables whose values SkyPilot takes along; `left` is what
    an earlier attempt left of the run on this machine, to go on from; `managed` is for SkyPilot's
    managed jobs, which start it again when its machine is lost; `followed_hours` are those of jobs
    that may take the machine after it: what Slurm itself ends is ended that much later.
    `files`, from places on the machine to those here, and `template` default to the project's own.
    Raises `BadInput` for a candidate that SkyPilot does not run.
    """
    spec, offer = candidate.spec, candidate.offer
    if spec is None or candidate.estimate is None or offer.provider not in PROVIDERS:
        raise BadInput(
            f"{offer.provider} {offer.instance} is not rented through SkyPilot: it has no task; "
            "--show spec prints what runs"
        )
    text = (template or paths.packaged("sky") / TEMPLATE).read_text("utf-8")
    tree = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    planned = deadline(candidate, plan.budget, plan.created_at).isoformat(timespec="seconds")
    until = spec.deadline or planned
    travelling, mounts = _travelling(msgspec.structs.replace(spec, deadline=until))
    tree["name"] = plan.run_id
    resources = {**tree["resources"], **_resources(plan, candidate)}
    if managed:  # SkyPilot sets an autostop of its own for these
        resources |= {"autostop": None, "job_recovery": JOB_RECOVERY}
        tree["envs"]["LORALIFT_NOTICE_FILE"] = NOTICE_FILE
    tree["resources"] = {key: value for key, value in resources.items() if value is not None}
    if spec.nodes > 1:
        tree["num_nodes"] = spec.nodes
    tree["envs"].update(
        LORALIFT_SPEC=msgspec.json.encode(travelling).decode(),
        LORALIFT_DEADLINE=until,
        LORALIFT_STORE=store,
    )
    if offer.provider == "slurm" and not managed:
        gone_by = _gone_by(until, plan.budget.collect_minutes, followed_hours)
        tree["envs"]["LORALIFT_GONE_BY"] = gone_by
    if secrets:
        tree["secrets"] = dict.fromkeys(secrets)
    if spec.track is not None:
        mounts[TRACKER_LOCK] = str(tracker_lock(spec.track))
    carried = {} if left is None else _left(left)
    tree["file_mounts"] = (project_files() if files is None else files) | mounts | carried
    card = offer.device.name
    header = HEADER.format(
        run_id=plan.run_id,
        gpu=card,
        provider=offer.provider,
        then="SkyPilot's controller" if managed else "autostop",
        by_hand=_by_hand(secrets, managed),
    )
    return header + yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=10_000)


def _by_hand(secrets: tuple[str, ...], managed: bool) -> str:
    """What starts the task from its file: `sky launch` would take no managed job for one, whose
    machine has no autostop."""
    values = [f"--secret {name}" for name in secrets]  # of the environment there
    return " ".join(["sky jobs launch" if managed else "sky launch", *values, "FILE"])


def _gone_by(deadline: str, collect_minutes: int, followed_hours: float) -> str:
    """When SkyPilot's autodown should have begun at the latest: what it takes then is left for
    another's end of the machine."""
    alone, _ = teardown(collect_minutes)
    late = timedelta(hours=followed_hours, seconds=alone.high - DOWN_SECONDS.high)
    return (datetime.fromisoformat(deadline) + late).isoformat(timespec="seconds")


def project_files() -> dict[str, str]:
    """What of the project travels with every task: its place on the machine → the place here."""
    jobs, sky = paths.job_code(), paths.packaged("sky")
    return {
        "~/loralift/code/jobs": str(jobs),
        "~/loralift/code/results": str(jobs.with_name("results")),
        "~/loralift/requirements.lock": str(paths.packaged("images") / "requirements.lock"),
        "~/loralift/setup.sh": str(sky / "setup.sh"),
        "~/loralift/run.sh": str(sky / "run.sh"),
    }


def _resources(plan: Plan, candidate: Candidate) -> dict[str, Any]:
    offer = candidate.offer
    assert candidate.estimate is not None
    return {
        "infra": _infra(offer),
        **_computer(offer, candidate.estimate),
        "image_id": f"docker:{offer.image}" if offer.image else None,
        "disk_size": disk_gib(candidate.estimate),
        "use_spot": offer.spot,
        # SkyPilot takes no limit of zero, which an owner who set no price would need.
        "max_hourly_cost": offer.microusd_per_hour / MICROUSD or None,
        "autostop": {"idle_minutes": plan.budget.collect_minutes, "down": True},
        "labels": {"loralift-run": plan.run_id},
    }


def _infra(offer: Offer) -> str:
    if offer.provider in CLUSTERS:  # a partition has a price of its own
        return f"{offer.provider}/{offer.instance}"
    real_region = offer.region.replace("-", "").isalnum() and offer.region != "any"
    return f"{offer.provider}/{offer.region}" if real_region else offer.provider


def _computer(offer: Offer, estimate: Estimate) -> dict[str, Any]:
    device = offer.device
    if device.kind == "cpu":  # a node of a cluster, taken whole
        memory = device.total_bytes // GIB
        return {"accelerators": None, "cpus": device.cores, "memory": memory}
    spelled = PROVIDERS[offer.provider].accelerators
    name = offer.accelerator or spelled.get(device.name, device.name)
    found: dict[str, Any] = {"accelerators": f"{name}:{offer.count}"}
    needed = ceil(estimate.host_ram_bytes / GIB)
    if offer.provider in CLUSTERS and needed > CLUSTER_GIB_A_GPU * offer.count:
        found["memory"] = needed  # a cluster gives no more than is asked for
    return found


def _left(folder: Path) -> dict[str, str]:
    """What a restart reads, where it is there."""
    names = (layout.CHECKPOINTS, layout.METRICS, layout.LOG, *layout.RESTART)
    return {str(_RUN / name): str(folder / name) for name in names if (folder / name).exists()}


def _travelling(spec: ResolvedSpec) -> tuple[ResolvedSpec, dict[str, str]]:
    """The spec with paths as they are on the machine (relative to the run's folder), and what has
    to be mounted for it."""
    mounts = {}
    data = {}
    for key in DATA_FILES:
        path = getattr(spec.data, key)
        if path is not None:
            data[key] = f"data/{key}{extension(path) or ''}"
            mounts[str(_RUN / data[key])] = path
    judging = {}
    for key in ("golden", "schema"):
        path = getattr(spec.eval, key)
        if path is not None:
            judging[key] = f"data/{key}{extension(path) or PurePosixPath(path).suffix}"
            mounts[str(_RUN / judging[key])] = path
    for path in spec.metrics_sha256:  # the job looks for a metric's file there first
        mounts[str(_RUN / layout.OWN_METRICS / PurePosixPath(path).name)] = path
    model = spec.model
    if model.id.startswith("/"):  # a folder of this machine; a Hub id is fetched there
        mounts[str(_RUN / GIVEN_MODEL)] = model.id
        model = msgspec.structs.replace(model, id=GIVEN_MODEL)
    parent = spec.resume_from
    if parent is not None and parent.startswith("/"):
        mounts[str(_RUN / "parent")] = parent
        parent = "./parent"
    moved = msgspec.structs.replace(
        spec,
        data=msgspec.structs.replace(spec.data, **data),
        eval=msgspec.structs.replace(spec.eval, **judging),
        model=model,
        resume_from=parent,
    )
    return moved, mounts


# libyaml's where it is: a task takes 1 ms instead of 6 (2026-11-22).
class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Scripts as block text, so that people can read them."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
