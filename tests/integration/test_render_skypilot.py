"""Rendered tasks through SkyPilot's own parser, which refuses what it does not know."""

import json
from pathlib import Path

import msgspec

from launcher import paths
from launcher.catalog.offers import embedded_offers
from launcher.render import task
from launcher.types import Budget
from tests.integration.command import ROOT
from tests.integration.skypilot import output
from tests.unit.launcher.plans import JOB, dollars, estimator, planned

# Many tasks in one child: SkyPilot takes seconds to import.
PROGRAM = """
import json, sys, yaml, sky
assert sky.__spec__.origin is not None, "an empty namespace called sky"
for path in sys.argv[1:]:
    task = sky.Task.from_yaml_config(yaml.safe_load(open(path)))
    (resources,) = task.resources
    stop = resources.autostop_config
    print(json.dumps({
        "name": task.name, "cloud": str(resources.cloud), "accelerators": resources.accelerators,
        "disk": resources.disk_size, "spot": resources.use_spot, "labels": resources.labels,
        "down": stop.down, "idle": stop.idle_minutes, "mounts": sorted(task.file_mounts),
        "envs": sorted(task.envs), "setup": bool(task.setup), "run": bool(task.run),
    }))
"""


def parse(python: str, files: list[Path], folder: Path) -> list[dict]:
    lines = output(python, folder, PROGRAM, *map(str, files))
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_task_for_every_offer_of_the_catalog_parses(sky_python, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    job = msgspec.structs.replace(JOB, data=msgspec.structs.replace(JOB.data, train=str(rows)))
    made = planned(
        list(embedded_offers()),
        Budget(max_cost_microusd=dollars(1000), max_hours=1000, spot=True),
        job,
        estimator=estimator({"qlora": 9.0}, 165.0),
    )
    candidates = [c for c in made.candidates if c.verdict != "rejected"]
    files = []
    for number, candidate in enumerate(candidates):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(task(made, candidate))
    parsed = parse(sky_python, files, tmp_path)
    assert len(parsed) == len(candidates) >= 15
    for found, candidate in zip(parsed, candidates, strict=True):
        assert found["name"] == "run-1"
        assert found["cloud"].lower() == candidate.offer.provider
        assert list(found["accelerators"].values()) == [candidate.offer.count]
        assert found["disk"] == 100
        assert found["spot"] is candidate.offer.spot
        assert found["labels"] == {"loralift-run": "run-1"}
        assert (found["down"], found["idle"]) == (True, 5)
        assert "~/loralift/run/data/train.jsonl" in found["mounts"]
        assert found["setup"]
        assert found["run"]


def test_the_template_is_a_task_by_itself(sky_python, tmp_path):
    for name in ("jobs", "results", "images", "sky"):  # its paths are relative to the project
        (tmp_path / name).symlink_to(ROOT / name)
    (found,) = parse(sky_python, [paths.packaged("sky") / "train.yaml"], tmp_path)
    assert found["accelerators"] == {"RTX4090": 1}
