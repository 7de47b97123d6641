"""`launch canary --on slurm`, the real command, and what must be so when it has ended."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from launcher.executors import environment
from results.collect import verify
from tests.integration.command import ROOT
from tests.integration.slurm.cluster import SlurmCluster

PATIENCE = 2700.0  # seconds: of three parts, each within its reserved time
CAP = 5  # dollars, of which the parts take some cents


def proves(slurm: SlurmCluster, folder: Path, *parts: str) -> dict[str, Any]:
    """The receipt of a canary with these parts; all are proved, and nothing is left."""
    lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
    kept = slurm.home / ".cache" / "loralift" / "envs" / lock
    if not kept.exists():
        slurm.give_training_environment(environment.folder(), kept)
    launch(slurm, folder, "offers", "--refresh")
    chosen = [word for part in parts for word in ("--part", part)]
    said = launch(
        slurm, folder, "canary", "--on", "slurm", "--max-cost", str(CAP), "--yes", "--json", *chosen
    )
    receipt = dict(json.loads(said))
    (kept_receipt,) = (folder / "runs").glob("*/canary.json")
    assert json.loads(kept_receipt.read_text()) == receipt
    assert (
        f"{receipt['canary_id']} on Slurm: proved" in kept_receipt.with_suffix(".txt").read_text()
    )
    assert [part["name"] for part in receipt["parts"]] == list(parts)
    for part in receipt["parts"]:
        check(slurm, part)
    assert receipt["verdict"] == "proved"
    assert receipt["spent_microusd"] == sum(p["spent_microusd"] for p in receipt["parts"])
    assert receipt["versions"]["SkyPilot"].count(".") == 2
    assert slurm.sky_clusters() == []
    runs = json.loads(launch(slurm, folder, "runs", "--json"))["runs"]
    assert [run["attempts"][-1]["machine"] for run in runs] == ["GONE"] * len(parts)
    return receipt


def check(slurm: SlurmCluster, part: dict[str, Any]) -> None:
    """The part's receipt beside Slurm's own record of the node."""
    assert part["verdict"] == "proved", part["found"]
    (held,) = [h for h in slurm.held() if h.name.startswith(f"loralift-{part['run_id']}-1-")]
    assert held.end is not None, "its node is still held"
    seconds = (held.end - held.start).total_seconds()
    assert datetime.fromisoformat(part["started_at"]) <= held.start
    rate = 740_000  # of the cheapest card, as nodes.py has it
    assert rate * seconds <= part["spent_microusd"] * 3600
    assert part["spent_microusd"] <= part["cap_microusd"] <= CAP * 1_000_000
    assert verify(Path(part["folder"])) == []


def launch(slurm: SlurmCluster, folder: Path, *arguments: str) -> str:
    """What it prints. Raises where it does not end with 0."""
    own = {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    with open(folder / "said.txt", "a+") as said:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *arguments],
            cwd=folder,
            env=os.environ | slurm.environment | own,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            timeout=PATIENCE,
        )
        said.seek(0)
        assert done.returncode == 0, done.stdout + said.read()[-4000:]
    return done.stdout
