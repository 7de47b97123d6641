import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Data, Evaluation, JobSpec, Model, ResolvedSpec
from launcher import recipes
from launcher.errors import BadInput
from launcher.executors.local import lay_out
from launcher.inputs.judging import scan_judging
from launcher.inputs.scanning import scan_data
from launcher.render import task
from launcher.types import Budget
from tests.unit.launcher.plans import cloud, dollars, planned

ROW = '{"prompt": "q", "completion": "a", "sources": ["x"]}\n'
CHECKS = "from math import pi\nlimit = 3\ndef tone(answers, references, questions): return 1.0\n"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = (json.dumps({"prompt": f"q{i}", "completion": "a"}) for i in range(20))
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / "golden.jsonl").write_text(ROW * 3 + "\n")
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "checks.py").write_text(CHECKS)
    (tmp_path / "recipe.yaml").write_text(
        "model: org/model\ndata: train.jsonl\npilot: {steps: 5}\n"
        "eval: {golden: golden.jsonl, schema: schema.json, metrics: ['checks:tone']}\n"
    )
    return tmp_path


def loaded(folder: Path, **flags: object) -> JobSpec:
    return recipes.load(str(folder / "recipe.yaml"), recipes.Flags(**flags)).job


def test_a_recipes_files_are_found_beside_it(folder: Path) -> None:
    job = loaded(folder, pilot=10)
    assert job.eval.golden == str(folder / "golden.jsonl")
    assert job.eval.schema == str(folder / "schema.json")
    assert job.eval.metrics == (f"{folder}/checks.py:tone",)
    assert (job.pilot.examples, job.pilot.steps) == (10, 5)
    assert loaded(folder).pilot.examples == 10, "the default"


def test_a_pilot_of_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"--pilot: pilot.examples: expected .* >= 1"):
        loaded(folder, pilot=0)


def test_files_that_flags_name_are_found_where_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "other.jsonl").write_text(ROW)
    job = loaded(folder, sets=("eval.golden=other.jsonl",))
    assert job.eval.golden == str(folder / "other.jsonl")


def test_everything_that_judges_is_bound(folder: Path) -> None:
    job = loaded(folder)
    facts = scan_judging(job, scan_data(job))
    assert facts.golden_rows == 3
    assert facts.golden_sha256 == sha(folder / "golden.jsonl")
    assert facts.schema_sha256 == sha(folder / "schema.json")
    assert facts.metrics_sha256 == {f"{folder}/checks.py": sha(folder / "checks.py")}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("golden.jsonl", ROW + "{", "golden.jsonl line 2: "),
        ("golden.jsonl", ROW + '{"prompt": "q", "completion": ""}', "line 2: the answer is empty"),
        ("golden.jsonl", "\n", "the data set is empty"),
        ("schema.json", "{", "eval.schema is not JSON"),
        ("checks.py", "def tune(): pass", "defines no tone; it has tune"),
        ("checks.py", "def tone(:", "invalid syntax"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_paid(
    folder: Path, name: str, content: str, said: str
) -> None:
    (folder / name).write_text(content)
    job = loaded(folder)
    with pytest.raises(BadInput) as caught:
        scan_judging(job, scan_data(job))
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["golden", "schema", "metrics"])
def test_a_missing_file_is_named_with_its_key(folder: Path, key: str) -> None:
    (
        folder / {"golden": "golden.jsonl", "schema": "schema.json", "metrics": "checks.py"}[key]
    ).unlink()
    with pytest.raises(BadInput, match=f"eval.{key}: no file"):
        loaded(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metrics": ("a/c.py:x", "b/c.py:y")}, "two files of one name"),
        ({"metrics": ("a.py:x", "b.py:x")}, "two functions of one name"),
        ({"metrics": ("a.py",)}, "regex"),
        ({"golden": "g", "generate": False}, "not with generate: false"),
    ],
)
def test_settings_that_cannot_work_together(settings: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(settings, Evaluation)


def test_a_regression_is_not_judged_by_its_words() -> None:
    tree = {"model": {"id": "m"}, "data": {"train": "t"}, "task": "regression",
            "regression": {"dimensions": ["a"]}, "eval": {"schema": "s"}}  # fmt: skip
    with pytest.raises(msgspec.ValidationError, match="judge written answers"):
        msgspec.convert(tree, JobSpec)


def spec_of(folder: Path) -> ResolvedSpec:
    return ResolvedSpec(
        run_id="r",
        model=Model(id="org/model"),
        data=Data(train=str(folder / "train.jsonl"), test=str(folder / "golden.jsonl")),
        strategy="lora",
        dtype="fp32",
        device="cpu",
        quantization=None,
        eval=Evaluation(
            golden=str(folder / "golden.jsonl"),
            schema=str(folder / "schema.json"),
            metrics=(f"{folder}/checks.py:tone",),
        ),
        metrics_sha256={f"{folder}/checks.py": sha(folder / "checks.py")},
    )


def test_only_the_metrics_file_travels(folder: Path) -> None:
    (folder / "secret.py").write_text("")
    work = folder / "work"
    work.mkdir()
    lay_out(work, spec_of(folder))
    assert [p.name for p in (work / layout.OWN_METRICS).iterdir()] == ["checks.py"]
    assert json.loads((work / layout.SPEC).read_text())["eval"]["metrics"]


def test_a_rented_machine_gets_every_file(folder: Path) -> None:
    made = planned([cloud("RTX4090", 0.74)], Budget(max_cost_microusd=dollars(10)))
    chosen = msgspec.structs.replace(made.candidates[0], spec=spec_of(folder))
    text = task(made, chosen)
    for name in (
        "data/golden.jsonl",
        "data/schema.json",
        "data/test.jsonl",
        "own_metrics/checks.py",
    ):
        assert f"~/loralift/run/{name}: " in text
