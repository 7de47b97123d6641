"""Real SkyPilot on the cluster: what it launches, where, what it brings home and leaves."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.integration.slurm import machine
from tests.integration.slurm.cluster import JOB_ENVIRONMENT, NAME, SlurmCluster
from tests.integration.slurm.records import Held

TASK = {
    "name": "look",
    "resources": {
        "cpus": "2+",
        "any_of": [
            {"infra": f"slurm/{NAME}", "accelerators": gpu} for gpu in ("A10G:1", "RTX4090:1")
        ],
    },
    "setup": "mkdir ~/out; env > ~/out/setup.txt",
    "run": """
        echo on $SLURMD_NODENAME
        env > ~/out/run.txt
        cd $(getent passwd $(id -un) | cut -d: -f6)/training
        bin/python -c 'import torch; print("torch from", torch.__file__)'
    """,
}

# Launch a task, follow its log to the job's end, fetch ~/out, print what was seen.
LAUNCH = """
import json, sys
import sky
name, task, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
job, handle = sky.get(sky.launch(sky.Task.from_yaml_config(task), cluster_name=name))
with open(folder + "/log", "w") as log:
    sky.tail_logs(name, job, follow=True, output_stream=log)
status = sky.get(sky.job_status(name, [job]))[job]
handle.get_command_runners()[0].rsync("~/out/", folder, up=False, stream_logs=False)
resources = handle.launched_resources
print(json.dumps([status.value, resources.accelerators, resources.get_cost(3600)]))
"""
DOWN = """
import sys
import sky
sky.get(sky.down(sys.argv[1]))
"""


def launched(slurm: SlurmCluster, name: str, folder: Path) -> list:
    said = slurm.sky(LAUNCH, name, json.dumps(TASK), str(folder))
    return json.loads(said.splitlines()[-1])


def test_the_cheaper_gpu_is_launched_and_nothing_stays(
    slurm: SlurmCluster, train_python: str, tmp_path: Path
):
    training = slurm.home / "training"
    slurm.give_training_environment(Path(train_python).parents[1], training)
    before = datetime.now(UTC).replace(microsecond=0)
    assert launched(slurm, "cheap", tmp_path) == ["SUCCEEDED", {"RTX4090": 1}, 0.74]
    log = (tmp_path / "log").read_text()
    assert "on rtx4090" in log
    assert f"torch from {training}/" in log
    for environment in ("setup.txt", "run.txt"):
        seen = dict(
            line.split("=", 1)
            for line in (tmp_path / environment).read_text().splitlines()
            if "=" in line
        )
        assert {k: seen[k] for k in JOB_ENVIRONMENT} == JOB_ENVIRONMENT
        assert seen["HOME"].startswith(f"{slurm.home}/.sky_clusters/cheap-")
    assert slurm.sky_clusters() == ["cheap"]
    (held,) = [h for h in slurm.held() if h.name.startswith("cheap-")]
    assert (held.node, held.state, held.end) == ("rtx4090", "RUNNING", None)

    slurm.sky(DOWN, "cheap")
    assert slurm.sky_clusters() == []
    (ended,) = [h for h in slurm.held() if h.name.startswith("cheap-")]
    assert ended.end is not None
    assert before <= held.start == ended.start < ended.end <= datetime.now(UTC)
    # what ended the job tidies up after that, and a machine's script removes its home last of all
    machine.until("idle nodes", lambda: set(slurm.states().values()) == {"idle"}, 60)
    homes = slurm.home / ".sky_clusters"
    machine.until("the home's removal", lambda: not list(homes.iterdir()), 60)


def test_what_a_lost_node_held_is_over(slurm: SlurmCluster):
    """Without SkyPilot, through the same door: ssh to where sbatch is."""
    ssh = ["ssh", "-F", slurm.client.home / ".slurm" / "config", "-o", "StrictHostKeyChecking=no"]
    ssh += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", NAME]
    # Without the option Slurm starts it again two minutes after its node is lost.
    batch = "sbatch --job-name=lost --partition=a100 --no-requeue --wrap='exec sleep 1000'"
    subprocess.run([*ssh, batch], check=True, stdout=subprocess.DEVNULL)

    def lost() -> list[Held]:
        return [held for held in slurm.held() if held.name == "lost"]

    machine.until("a job", lambda: "sleep 1000" in slurm.processes_left().values(), 60)
    (before,) = lost()
    assert (before.node, before.state, before.end) == ("a100", "RUNNING", None)
    slurm.down("a100")
    machine.until("no job", lambda: "sleep 1000" not in slurm.processes_left().values(), 60)
    (after,) = lost()
    assert (after.state, after.start) == ("NODE_FAIL", before.start)
    assert after.end is not None
    assert slurm.states()["a100"].startswith("down")
    slurm.up("a100")
    machine.until("an idle node", lambda: slurm.states()["a100"] == "idle", 60)


def test_a_drained_node_is_passed_over(slurm: SlurmCluster, tmp_path):
    slurm.drain("rtx4090")
    try:
        assert launched(slurm, "next", tmp_path) == ["SUCCEEDED", {"A10G": 1}, 1.01]
    finally:
        slurm.resume("rtx4090")
        slurm.sky(DOWN, "next")
    assert {h.node for h in slurm.held() if h.name.startswith("next-")} == {"a10g"}
