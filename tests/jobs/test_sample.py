import json
from pathlib import Path

import msgspec
import yaml

from jobs.metrics import best_constant
from jobs.sample import make
from jobs.sample.policies import OFF_TOPIC, POLICIES, TRAIN_CARRIERS, VALIDATION_CARRIERS
from jobs.spec import JobSpec

JOBS = Path(make.__file__).parent.parent
RECIPE = JOBS / "recipes" / "sample.yaml"


def chats(name):
    lines = (JOBS / "sample" / f"{name}.jsonl").read_text().splitlines()
    return [[m["content"] for m in json.loads(line)["messages"]] for line in lines]


def cited(name):
    return {json.loads(answer)["citation"] for _, answer in chats(name)}


def test_the_committed_files_are_what_the_script_makes(tmp_path):
    make.main(tmp_path)
    made = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert len(made) == 5
    for name in made:
        assert (tmp_path / name).read_bytes() == (JOBS / "sample" / name).read_bytes(), name


def test_validation_asks_as_training_never_did():
    assert not set(TRAIN_CARRIERS) & set(VALIDATION_CARRIERS)
    train, validation = ({q for q, _ in chats(name)} for name in ("train", "validation"))
    assert not train & validation
    names = [n for p in POLICIES for n in p.names] + list(OFF_TOPIC)
    carriers = {q.replace(n, "{}") for q in train for n in names if n in q}
    assert not carriers & set(VALIDATION_CARRIERS)


def test_every_policy_and_a_refusal_are_in_both():
    wanted = {p.id for p in POLICIES} | {None}
    assert len(wanted) == 21
    assert cited("train") == cited("validation") == wanted


def test_no_name_means_two_things():
    names = [n for p in POLICIES for n in p.names] + list(OFF_TOPIC)
    assert len(names) == len(set(names))


def test_a_constant_answer_fails():
    best = best_constant([a for _, a in chats("train")], [a for _, a in chats("validation")])
    assert best["json_citation_rate"] <= 0.2


def test_the_recipe_is_a_job_and_its_rows_fit():
    text = yaml.safe_load(RECIPE.read_text())
    job = msgspec.convert(text, JobSpec)
    assert set(text) <= set(JobSpec.__struct_fields__)
    for path in (job.data.train, job.data.validation, f"{job.model.id}/config.json"):
        assert (RECIPE.parent / path).is_file()
    gates = {gate.metric: gate.min for gate in job.gates}
    assert gates == {"json_citation_rate": 0.9, "refusal_precision": 0.85}


def test_k_quants_can_hold_every_matrix():
    config = json.loads((JOBS / "sample" / "model" / "config.json").read_text())
    for key in ("hidden_size", "intermediate_size", "vocab_size"):
        assert config[key] % 256 == 0
