from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import yaml

from jobs.spec import Data, Model, ResolvedSpec
from launcher import paths
from launcher.errors import BadInput
from launcher.estimate.renting import DOWN_SECONDS
from launcher.render import project_files, task
from launcher.types import GIB, Budget
from tests.unit.launcher.plans import JOB, SEVEN_B, TEN, cloud, dollars, local, planned

PROJECT = Path(__file__).resolve().parents[3]
GOLDEN = PROJECT / "tests" / "golden" / "task-runpod-4090.yaml"

ENDING = 275 + 5 * 60 + 60 + 120  # seconds: grace, waiting to be fetched, autodown, down
FILES = {place: f"/project/{place.rpartition('/')[2]}" for place in project_files()}


def rendered(made):
    return task(made, made.chosen, files=FILES)


def test_the_task_of_a_runpod_4090():
    assert rendered(planned([cloud("RTX4090", 0.74)], TEN)) == GOLDEN.read_text()


def test_the_same_plan_gives_the_same_text():
    made = planned([cloud("RTX4090", 0.74)], TEN)
    assert rendered(made) == rendered(made)


def test_the_spec_travels_with_paths_of_the_machine():
    job = msgspec.structs.replace(
        JOB,
        model=Model(id="/home/me/model"),
        data=Data(
            train="/home/me/rows.2026-11-21.jsonl.gz",
            validation="/home/me/held.json",
            test="/home/me/test.csv",
        ),
    )
    tree = yaml.safe_load(rendered(planned([cloud("RTX4090", 0.74)], TEN, job)))
    spec = msgspec.json.decode(tree["envs"]["LORALIFT_SPEC"], type=ResolvedSpec)
    assert spec.model.id == "./given_model"
    assert spec.data == Data(
        train="data/train.jsonl.gz", validation="data/validation.json", test="data/test.csv"
    )
    assert tree["file_mounts"] == {
        **FILES,
        "~/loralift/run/data/train.jsonl.gz": "/home/me/rows.2026-11-21.jsonl.gz",
        "~/loralift/run/data/validation.json": "/home/me/held.json",
        "~/loralift/run/data/test.csv": "/home/me/test.csv",
        "~/loralift/run/given_model": "/home/me/model",
    }


@pytest.mark.parametrize(
    ("offer", "infra", "accelerators"),
    [
        (cloud("A100-40GB", 1.0, "lambda"), "lambda", "A100:1"),
        (cloud("H100-SXM", 1.0, "runpod"), "runpod", "H100-SXM:1"),
        (cloud("H100-SXM", 1.0, "gcp"), "gcp", "H100:1"),
        (cloud("A10G", 1.0, "aws", region="us-east-1"), "aws/us-east-1", "A10G:1"),
        (cloud("A10G", 1.0, "aws", region="us-*"), "aws", "A10G:1"),
    ],
)
def test_names_are_those_that_skypilot_knows(offer, infra, accelerators):
    resources = yaml.safe_load(rendered(planned([offer], TEN)))["resources"]
    assert (resources["infra"], resources["accelerators"]) == (infra, accelerators)


def test_spot_only_where_the_offer_is_spot():
    offer = cloud("A10G", 0.513, "aws", spot=True)
    made = planned([offer], msgspec.structs.replace(TEN, spot=True))
    resources = yaml.safe_load(rendered(made))["resources"]
    assert resources["use_spot"] is True
    assert resources["max_hourly_cost"] == 0.513


def test_the_image_that_was_asked_for():
    asked = msgspec.structs.replace(TEN, image="registry.example/me/train:1")
    made = planned([cloud("RTX4090", 0.74, capabilities=("containers",))], asked)
    resources = yaml.safe_load(rendered(made))["resources"]
    assert resources["image_id"] == "docker:registry.example/me/train:1"
    made = planned([cloud("RTX4090", 0.74, capabilities=("containers",))], TEN)
    assert "image_id" not in yaml.safe_load(rendered(made))["resources"]


NODE = {"provider": "slurm", "instance": "lab/gpu-a", "region": "lab"}


def test_a_partition_of_a_cluster_is_named_with_its_gpu_as_spelled_there():
    offer = cloud("H100-PCIe", 0.0, **NODE, accelerator="H100-80GB")
    resources = yaml.safe_load(rendered(planned([offer], TEN)))["resources"]
    assert (resources["infra"], resources["accelerators"]) == ("slurm/lab/gpu-a", "H100-80GB:1")
    assert "max_hourly_cost" not in resources  # SkyPilot takes none of zero
    assert "memory" not in resources


def test_a_job_that_needs_more_memory_than_a_cluster_gives_asks_for_it():
    def hungry(*arguments):
        return msgspec.structs.replace(SEVEN_B(*arguments), host_ram_bytes=40 * GIB + 1)

    offer = cloud("RTX4090", 0.5, **NODE, accelerator="RTX4090")
    made = planned([offer], TEN, estimator=hungry)
    assert yaml.safe_load(rendered(made))["resources"]["memory"] == 41
    four = msgspec.structs.replace(offer, count=4)
    made = planned([four], TEN, estimator=hungry)
    assert "memory" not in yaml.safe_load(rendered(made))["resources"]


def test_a_node_without_gpus_is_asked_for_whole():
    cpu = local("cpu", 64).device
    device = msgspec.structs.replace(cpu, cores=16, total_bytes=64 * GIB)
    offer = cloud("T4", 0.01, **NODE)
    long = Budget(max_cost_microusd=dollars(10), max_hours=1000)
    made = planned([msgspec.structs.replace(offer, device=device)], long)
    resources = yaml.safe_load(rendered(made))["resources"]
    assert (resources["cpus"], resources["memory"]) == (16, 64)
    assert "accelerators" not in resources
    assert resources["max_hourly_cost"] == 0.01


@pytest.mark.parametrize(
    ("cap", "hours", "seconds"), [(10, 8, 8 * 3600), (1.48, 8, 7200), (10, 0.5, 1800)]
)
def test_the_deadline_leaves_the_machines_end_of_hours_or_of_what_the_cap_pays_for(
    cap, hours, seconds
):
    made = planned(
        [cloud("RTX4090", 0.74)], Budget(max_cost_microusd=dollars(cap), max_hours=hours)
    )
    tree = yaml.safe_load(task(made, made.candidates[0], files=FILES))
    until = datetime.fromisoformat(tree["envs"]["LORALIFT_DEADLINE"])
    assert (until - datetime.fromisoformat(made.created_at)).total_seconds() == seconds - ENDING
    spec = msgspec.json.decode(tree["envs"]["LORALIFT_SPEC"], type=ResolvedSpec)
    assert spec.deadline == tree["envs"]["LORALIFT_DEADLINE"]


def test_slurm_ends_the_machine_itself_when_autodown_has_had_its_time():
    made = planned([cloud("A100-80GB", 1.39, **NODE)], TEN)
    tree = yaml.safe_load(task(made, made.chosen, files=FILES))
    until, gone_by, end = (
        datetime.fromisoformat(text)
        for text in (
            tree["envs"]["LORALIFT_DEADLINE"],
            tree["envs"]["LORALIFT_GONE_BY"],
            made.created_at,
        )
    )
    waited = timedelta(minutes=made.budget.collect_minutes)
    assert gone_by > until + waited
    cap_seconds = made.budget.max_cost_microusd * 3600 / made.chosen.offer.microusd_per_hour
    paid = min(cap_seconds, made.budget.max_hours * 3600)
    assert gone_by <= end + timedelta(seconds=paid - DOWN_SECONDS.high + 1)
    managed = yaml.safe_load(task(made, made.chosen, files=FILES, managed=True))
    assert managed["envs"]["LORALIFT_GONE_BY"] == ""  # its controller sees to that


def test_a_store_travels_by_name():
    made = planned([cloud("RTX4090", 0.74)], TEN)
    assert yaml.safe_load(rendered(made))["envs"]["LORALIFT_STORE"] == ""
    tree = yaml.safe_load(task(made, made.chosen, store="s3://b/p", files=FILES))
    assert tree["envs"]["LORALIFT_STORE"] == "s3://b/p"


def test_what_travels_is_there_and_is_what_the_template_names():
    assert all(Path(here).exists() for here in project_files().values())
    template = yaml.safe_load((paths.packaged("sky") / "train.yaml").read_text())
    assert project_files().keys() == template["file_mounts"].keys()
    for place, here in template["file_mounts"].items():
        assert Path(project_files()[place]).resolve() == (PROJECT / here).resolve()


def test_this_machine_has_no_task():
    made = planned([local("RTX4080", 15)], TEN)
    with pytest.raises(BadInput, match="--show spec"):
        rendered(made)


def test_no_variable_of_this_machine_gets_into_the_task(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    assert "hf_planted" not in rendered(planned([cloud("RTX4090", 0.74)], TEN))


def test_the_template_holds_every_key_that_is_filled():
    template = yaml.safe_load((paths.packaged("sky") / "train.yaml").read_text())
    filled = yaml.safe_load(rendered(planned([cloud("RTX4090", 0.74)], TEN)))
    assert filled.keys() == template.keys()
    assert filled["resources"].keys() == template["resources"].keys()
    assert filled["envs"].keys() == template["envs"].keys()
    assert filled["setup"] == template["setup"]
    assert filled["run"] == template["run"]
