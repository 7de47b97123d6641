"""Six small content filters under one cap, each learning two other scores of the same verses: on
this machine, and rented from a local Slurm cluster, where one machine goes from each to the next.

    pytest tests/soak/test_portfolio.py -s

LORALIFT_SOAK_FILTERS says how many (6, at least 3).
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks.passages import DIMENSIONS, rows
from jobs import layout
from launcher.executors import environment
from results.collect import verify
from tests.integration.command import ROOT, Command
from tests.integration.conftest import sky_python, train_python
from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.launching import Story
from tests.soak.killing import setting

__all__ = ["sky_python", "train_python"]  # the fixtures

CAP = 12.0
FILTERS = list(combinations(DIMENSIONS[:4], 2))[: setting("LORALIFT_SOAK_FILTERS", 6)]
RECIPE = """\
name: {name}
task: regression
model: {{id: {model}, init: random}}
data: verses.jsonl
strategy: qlora
regression: {{dimensions: [{dimensions}]}}
train: {{epochs: 2, learning_rate: 1.0e-3, warmup_steps: 0, seq_len: 128, effective_batch: 8,
  packing: false, activation_checkpointing: false}}
gates: [{{metric: mae, max: {most}}}]
budget: {{collect_minutes: 5}}
"""
IMPOSSIBLE = 0.01  # of ten: the third filter's gate, which must not stop the others


@pytest.fixture
def filters(tmp_path: Path) -> tuple[str, ...]:
    """The recipes beside their data, in the working folder of the command."""
    folder = tmp_path / "work"
    folder.mkdir()
    verses = (json.dumps(row) + "\n" for row in rows(600, seed=1))
    (folder / "verses.jsonl").write_text("".join(verses))
    for number, names in enumerate(FILTERS, start=1):
        text = RECIPE.format(
            name=f"filter-{number}",
            model=ROOT / "jobs" / "sample" / "model",
            dimensions=", ".join(names),
            most=IMPOSSIBLE if number == 3 else 4.0,
        )
        (folder / f"filter-{number}.yaml").write_text(text)
    return tuple(f"filter-{number}.yaml" for number in range(1, len(FILTERS) + 1))


def judge(receipt: dict[str, Any], runs: Path) -> None:
    """Each has its own end, and files that are whole; together they hold the cap."""
    ends = [(one["what"], one["state"], one["reason"]) for one in receipt["members"]]
    assert ends == [
        (f"filter-{n}", "SUCCEEDED", "GATE_FAILED" if n == 3 else None)
        for n in range(1, len(FILTERS) + 1)
    ]
    assert receipt["spent_microusd"] <= CAP * 1e6
    spent = 0
    for one in receipt["members"]:
        home = runs / one["run_id"]
        assert verify(home) == []
        assert (home / layout.ADAPTER / "adapter_model.safetensors").is_file()
        spent += json.loads((home / layout.RECEIPT).read_text())["spent_microusd"]
        print(one["what"], one["where"], one["gates"][0]["value"], one["spent_microusd"])
    assert receipt["spent_microusd"] == spent
    print(f"spent ${spent / 1e6:.4f} of ${CAP:.2f}")


def test_six_filters_on_this_machine(
    filters: tuple[str, ...], tmp_path: Path, train_python: str
) -> None:
    launch = Command(tmp_path / "work")
    priced = ("--on", "local", "--set", "budget.local_usd_per_hour=1")
    flags = (*priced, "--max-cost", str(CAP), "--yes", "--no-escalate", "--json")
    done = launch(*filters, *flags, timeout=3600)
    assert done.returncode == 5, done.stderr
    judge(json.loads(done.stdout), tmp_path / "work" / "runs")


@pytest.fixture
def slurm(sky_python: str, train_python: str) -> Iterator[SlurmCluster]:
    missing = machine.lacks()
    assert missing is None, missing
    with SlurmCluster(sky_python, managed_jobs=False) as cluster:
        lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
        kept = cluster.home / ".cache" / "loralift" / "envs" / lock
        cluster.give_training_environment(environment.folder(), kept)
        yield cluster


def test_six_filters_on_slurm(
    filters: tuple[str, ...], slurm: SlurmCluster, tmp_path: Path
) -> None:
    story = Story(slurm, "filters", tmp_path / "story", {})
    for path in (tmp_path / "work").iterdir():
        path.rename(story.folder / path.name)
    story.launch("offers", "--refresh")
    flags = ("--on", "slurm", "--gpu", "RTX4090", "--max-cost", str(CAP), "--yes", "--no-escalate")
    launched = story.start("-m", "launcher", *filters, *flags, "--run-id", "filters")
    assert launched.wait(3600) == 5, story.said
    receipt = json.loads(story.launch("status", "filters", "--json").stdout)
    judge(receipt, story.folder / "runs")
    held = [one for one in slurm.held() if one.name.startswith("loralift-filters-")]
    assert len(held) == 1, held
    assert all(one.end is not None for one in held)
    by_slurm = sum((one.end - one.start).total_seconds() for one in held if one.end) / 3600
    rate = 740_000  # of the cluster's RTX4090
    assert receipt["spent_microusd"] >= rate * by_slurm
    print(f"{by_slurm * 3600:.0f} s by Slurm, ${rate * by_slurm / 1e6:.4f} at least")
