"""What clusters have and cost, asked of SkyPilot's own code with a login node that answers it."""

import json

import msgspec
import pytest

from launcher.catalog import clusters
from launcher.render import task
from launcher.types import Budget, Offer
from tests.integration.login_node import stand_in
from tests.integration.offers import Offers
from tests.integration.skypilot import offline, output
from tests.unit.launcher.plans import JOB, dollars, estimator, planned

NO_ROOM = "SkyPilot saw no room for it: 4 CPUs and 16 GiB a GPU (it looks anew each half hour)"
# What SkyPilot's optimizer makes of tasks: where they would run and for how much an hour.
OPTIMIZE = """
import json, sys, yaml, sky
from sky import optimizer
for path in sys.argv[1:]:
    task = sky.Task.from_yaml_config(yaml.safe_load(open(path)))
    dag = sky.Dag()
    dag.add(task)
    optimizer.Optimizer.optimize(dag, quiet=True)
    best = task.best_resources
    print(json.dumps([str(best.cloud).lower(), best.region, best.zone, best.instance_type,
                      best.get_cost(3600)]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sky_python: str) -> Offers:
    home = tmp_path_factory.mktemp("home")
    login = stand_in(home, sky_python)
    python = home / "skypilot-python"
    python.write_text(f'#!/bin/sh\nexec {" ".join([*offline(), login])} "$@"\n')
    python.chmod(0o755)
    found = Offers(home, str(python))
    found.json("--refresh")
    return found


def test_a_refresh_asks_what_the_cluster_has_at_what_price(cluster):
    found = cluster.json("--on", "slurm")
    assert found["enabled"]["enabled"] == ["slurm"]
    offers = [msgspec.convert(row, Offer) for row in found["offers"]]
    rows = [(o.instance, o.device.name, o.count, o.microusd_per_hour / 1e6) for o in offers]
    assert sorted(rows) == [
        ("skylocal/cpu", "CPU", 1, 0.384),  # 16 x $0.02 + 64 x $0.001
        ("skylocal/gpu-a", "RTX4090", 1, 0.6),  # the cluster's price, not the cloud's
        ("skylocal/gpu-a", "RTX4090", 2, 1.2),
        ("skylocal/gpu-a", "RTX4090", 4, 2.4),
        ("skylocal/gpu-a", "RTX4090", 8, 4.8),
        ("skylocal/gpu-b", "A100-80GB", 1, 1.39),
        ("skylocal/gpu-c", "L4", 1, 0.0),
        ("skylocal/night", "RTX4090", 1, 0.25),  # the partition's
        ("skylocal/night", "RTX4090", 2, 0.5),
        ("skylocal/night", "RTX4090", 4, 1.0),
        ("skylocal/night", "RTX4090", 8, 2.0),
    ]
    assert {o.enabled for o in offers} == {True}
    left_out = cluster.json("--on", "slurm", "--dropped")["dropped"]
    dropped = {(entry["gpu"], entry["reason"]) for entry in left_out}
    assert dropped == {
        ("A100", NO_ROOM),
        ("A10G", "its nodes take no jobs: down, drained or cordoned"),
        ("A4000", "GPU A4000 is not in the table"),
    }


def test_skypilot_takes_each_task_where_and_for_what_the_offer_says(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cluster.folder / "cache"))
    offers = clusters.listing().offers
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    job = msgspec.structs.replace(JOB, data=msgspec.structs.replace(JOB.data, train=str(rows)))
    budget = Budget(max_cost_microusd=dollars(100_000), max_hours=10_000)
    files, judged = [], []
    for number, offer in enumerate(offers):
        made = planned([offer], budget, job, estimator=estimator({"qlora": 9.0}, 165.0))
        assert made.chosen is not None, made.candidates[0].reason
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(task(made, made.chosen))
    for line in output(cluster.python, tmp_path, OPTIMIZE, *map(str, files)):
        if line.startswith('["'):
            judged.append(json.loads(line))
    assert len(judged) == len(offers) > 10
    for offer, (cloud, region, zone, instance, usd) in zip(offers, judged, strict=True):
        assert f"{cloud}/{region}/{zone}" == f"slurm/{offer.instance}"
        assert offer.microusd_per_hour == pytest.approx(usd * 1e6)
        if offer.accelerator:
            assert instance.endswith(f"--{offer.accelerator}:{offer.count}")
        else:
            assert instance == "16CPU--64GB"


@pytest.mark.parametrize(
    ("gpu", "instance"), [("RTX4090", "skylocal/night"), ("cpu", "skylocal/cpu")]
)
def test_a_plan_on_slurm(cluster, gpu, instance):
    arguments = ("--on", "slurm", "--gpu", gpu, "--max-cost", "1", "--dry-run", "--json")
    plan = json.loads(cluster.launch(*arguments).stdout)
    chosen = plan["candidates"][0]
    assert chosen["verdict"] == "chosen"
    assert chosen["offer"]["instance"] == instance
    assert 0 < chosen["worst_microusd"] <= 1_000_000
