"""A run that SkyPilot looks after loses its machine in the middle, and no more than that.

Slurm has no spot machines. What makes a run a managed job here is the rule for long ones, with its
threshold at nought.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from jobs import layout
from launcher.executors import environment
from results.collect import verify
from tests.integration.buckets import CLIENT, SERVER
from tests.integration.command import ROOT
from tests.integration.environments import kept_environment
from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.records import Held
from tests.servers import seaweedfs
from tests.servers.seaweedfs import BUCKET, SeaweedFS

ROUNDING = timedelta(seconds=1)  # Slurm writes whole seconds, SkyPilot cuts them off
PATIENCE = 1200.0  # seconds until a test that waits says that it waited in vain
NODE, GPU = "a10g", "A10G"
SAMPLE = ROOT / "jobs" / "sample"
# 3 steps an epoch, 0.1 to 0.3 s each. Checkpoints are uploaded every half minute: the training
# waits for the first of them to be there and for the machine to be lost, and has much left then.
EPOCHS = 100
HELD_FROM = 60
STEPS = 3 * EPOCHS
RECIPE = f"""\
name: long
model: {{id: {SAMPLE}/model, init: random}}
data: {{train: train.jsonl, validation: validation.jsonl}}
strategy: qlora
train: {{epochs: {EPOCHS}, seq_len: 64, effective_batch: 16, micro_batch: 16, packing: false,
  activation_checkpointing: false, checkpoint_every_steps: 20}}
eval: {{max_new_tokens: 4, batch: 8, metrics: ["own:nothing"]}}
gates: []
"""
HOLDING = """\
import time
from pathlib import Path
from jobs.progress import Progress

write = Progress.write

def write_and_hold(self, record):
    write(self, record)
    while getattr(record, "step", 0) >= {step} and not Path({go!r}).exists():
        time.sleep(0.2)

Progress.write = write_and_hold

def nothing(answers, references, questions):
    return 0.0
"""
EVERY_RUN_IS_LONG = """
import launcher.executors
launcher.executors.LONG_RUN_HOURS = 0.0
from launcher.cli import main
main()
"""
RECOVERIES = """
import json, sys
import sky
jobs, *_ = sky.get(sky.jobs.queue_v2(refresh=False, name_match=sys.argv[1]))
print(json.dumps([[job["status"].value, job["recovery_count"]] for job in jobs]))
"""


@pytest.fixture(scope="module")
def client_packages() -> Path:
    """Where boto3 is, which the launcher needs for a bucket."""
    home = Path(kept_environment(CLIENT)).parents[1]
    return home / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"


@pytest.fixture(scope="module")
def server(client_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    weed = Path(kept_environment([SERVER])).with_name("weed")
    sys.path.append(str(client_packages))
    with seaweedfs.running(weed, tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started
    sys.path.remove(str(client_packages))


class Managed:
    """One run through the real command, with a ledger of its own."""

    def __init__(self, slurm: SlurmCluster, server: SeaweedFS, packages: Path, folder: Path):
        self.slurm, self.server, self.folder = slurm, server, folder
        path = os.pathsep.join([str(ROOT), str(packages)])
        own = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": path, "COLUMNS": "200"}
        self.environment = slurm.environment | server.environment | own
        for name, rows in (("train", 40), ("validation", 8)):
            lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines(keepends=True)
            (folder / f"{name}.jsonl").write_text("".join(lines[:rows]))
        (folder / "recipe.yaml").write_text(RECIPE)
        self.go = slurm.shared / f"{folder.name}-go"
        (folder / "own.py").write_text(HOLDING.format(step=HELD_FROM, go=str(self.go)))

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-c", EVERY_RUN_IS_LONG, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def launch(self, *arguments: str) -> None:
        assert self.start(*arguments).wait(PATIENCE) == 0, self.said

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()[-6000:]

    def view(self, run_id: str) -> dict:
        command = [sys.executable, "-m", "launcher", "status", run_id, "--json"]
        said = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, check=True
        )
        return json.loads(said.stdout)

    def held(self, run_id: str) -> list[Held]:
        return [h for h in self.slurm.held() if h.name.startswith(f"loralift-{run_id}-1-")]

    def task(self, run_id: str) -> dict:
        work = self.folder / "state" / "loralift" / "work" / run_id
        return yaml.safe_load((work / layout.TASK).read_text())

    def checkpoints(self, run_id: str) -> list[int]:
        """Steps of those that are whole in the bucket."""
        listed = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{run_id}/")
        whole = [o["Key"] for o in listed.get("Contents", []) if o["Key"].endswith(layout.COMPLETE)]
        return [int(key.split("/")[-2].removeprefix(layout.CHECKPOINT_PREFIX)) for key in whole]


@pytest.fixture
def managed(
    slurm: SlurmCluster, server: SeaweedFS, client_packages: Path, train_python: str, tmp_path: Path
) -> Managed:
    lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
    target = slurm.home / ".cache" / "loralift" / "envs" / lock
    if not target.exists():
        slurm.give_training_environment(environment.folder(), target)
        (target / "ready").touch()
    return Managed(slurm, server, client_packages, tmp_path)


def goes_on_after(managed: Managed, run_id: str, lose: Callable[[Managed, str], None]) -> None:
    """`lose` its machine, a checkpoint being in the bucket: the run ends as if it had not."""
    slurm, cluster = managed.slurm, f"loralift-{run_id}-1-"
    managed.launch("offers", "--refresh")
    options = ("--on", "slurm", "--gpu", GPU, "--max-cost", "5", "--yes", "--run-id", run_id)
    launcher = managed.start("recipe.yaml", *options, "--store", f"s3://{BUCKET}")
    try:
        machine.until(
            "a checkpoint in the bucket",
            lambda: managed.checkpoints(run_id) or launcher.poll() is not None,
            PATIENCE,
            every=1.0,
        )
        assert launcher.poll() is None, managed.said
        deadline = managed.task(run_id)["envs"]["LORALIFT_DEADLINE"]
        at_least = max(managed.checkpoints(run_id))
        lose(managed, run_id)
        managed.go.touch()
        assert launcher.wait(PATIENCE) == 0, managed.said
    finally:
        launcher.kill()
        launcher.wait()

    home = managed.folder / "runs" / run_id
    assert verify(home) == []
    result = json.loads((home / layout.RESULT).read_text())
    assert (result["status"], result["steps"]) == ("success", STEPS)
    assert at_least <= result["resumed_from_step"] < STEPS
    lines = map(json.loads, (home / layout.METRICS).read_text().splitlines())
    assert [r["step"] for r in lines if r["event"] == "step"] == list(range(1, STEPS + 1))
    spec = json.loads((home / layout.SPEC).read_text())
    assert spec["deadline"] == deadline  # no recovery moves it

    first, *_, last = managed.held(run_id)
    assert last.end is not None, "its node is still held"
    ((status, recovered),) = json.loads(slurm.sky(RECOVERIES, cluster[:-1]).splitlines()[-1])
    assert status == "SUCCEEDED"
    assert recovered >= 1

    run = managed.view(run_id)["run"]
    (attempt,) = run["attempts"]
    found = (run["state"], attempt["executor"], attempt["machine"])
    assert found == ("SUCCEEDED", "managed", "GONE")
    assert datetime.fromisoformat(attempt["started_at"]) <= first.start
    assert last.end <= datetime.fromisoformat(attempt["gone_at"]) + ROUNDING
    dollars = json.loads((home / layout.RECEIPT).read_text())["lines"][-1]
    assert f"{recovered} × recovered" in dollars["note"]
