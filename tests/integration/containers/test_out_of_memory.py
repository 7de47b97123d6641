"""A climb out of memory: a real Docker, a real limit, real training."""

import json
from pathlib import Path

from jobs import layout
from launcher.types import MIB
from tests.integration.containers import memory
from tests.integration.containers.engines import Docker
from tests.integration.containers.launching import ContainerCommand

# Some steps of 256 of the sample's rows, no answers: they reach 1,409 MiB, and 1,008 MiB by 64 at
# once, where nothing limits them.
LIMIT_BYTES = 1250 * MIB
JOB = {
    "train.epochs": "0.3",
    "train.effective_batch": "256",
    "train.micro_batch": "256",
    "eval.generate": "false",
    "gates": "[]",
    "budget.local_usd_per_hour": "3.6",  # a tenth of a cent a second: the cap is hours away
}


def test_what_ran_out_of_memory_in_a_container_comes_back_smaller(
    docker: Docker, tmp_path: Path
) -> None:
    """The plan sees the machine's memory, and the engine's containers have less to share."""
    launch = ContainerCommand(tmp_path, docker.variables)
    sets = [f"--set={key}={value}" for key, value in JOB.items()]
    flags = ("--on", "local", "--executor", "docker", "--max-cost", "10", "--yes", "--json")
    docker.stop()
    try:
        with memory.shared("loralift-small", LIMIT_BYTES) as parent:
            driver = "native.cgroupdriver=cgroupfs"  # systemd's would want a slice
            docker.start(options=("--cgroup-parent", parent, "--exec-opt", driver))
            try:
                done = launch("sample", "--run-id", "large", *flags, *sets, timeout=900)
            finally:
                docker.stop()
    finally:
        docker.start()
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    first, *others = answer["climb"]["runs"]
    assert (first["run_id"], first["reason"]) == ("large", "OUT_OF_MEMORY")
    assert first["decision"] == "out of memory with 256 rows at once: 128"
    assert [one["reason"] for one in others] == ["OUT_OF_MEMORY"] * (len(others) - 1) + [None]
    runs = [tmp_path / "runs" / one["run_id"] for one in (first, *others)]
    trained = [json.loads((run / layout.SPEC).read_text())["train"] for run in runs]
    assert [spec["micro_batch"] for spec in trained] == [256 >> n for n in range(len(runs))]
    assert {spec["effective_batch"] for spec in trained} == {256}
    assert (answer["state"], answer["run_id"]) == ("SUCCEEDED", runs[-1].name)
    assert (runs[-1] / layout.ADAPTER / "adapter_model.safetensors").exists()
    # one budget: each run has what those before it left
    left = 10_000_000
    for run, one in zip(runs, (first, *others), strict=True):
        budget = json.loads((run / layout.PLAN).read_text())["budget"]
        assert budget["max_cost_microusd"] == left
        assert one["spent_microusd"] > 0
        left -= one["spent_microusd"]
