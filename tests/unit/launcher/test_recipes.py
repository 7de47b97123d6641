from pathlib import Path

import pytest

from launcher.errors import BadInput
from launcher.recipes import Flags, load

BASE = "model: Qwen/Qwen2.5-7B\ndata: rows.jsonl\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a recipe beside a data file and load it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')

    def write(text: str, today: str | None = None, **flags):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return load(str(path), Flags(**flags), today)

    return write


def test_defaults_are_the_decision_records(recipe) -> None:
    job = recipe(BASE).job
    assert (job.strategy, job.lora.r, job.lora.alpha, job.lora.dropout) == ("qlora", 16, 32, 0.05)
    assert (job.train.epochs, job.train.learning_rate) == (2.0, 2e-4)
    assert (job.train.micro_batch, job.train.effective_batch) == ("auto", 16)
    assert job.train.optimizer == "paged_adamw_8bit"
    assert len(job.lora.targets) == 7


def test_paths_are_relative_to_the_recipe(recipe, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    job = recipe("model: tiny\ndata: {train: rows.jsonl, validation: rows.jsonl}\n").job
    assert job.model.id == str(tmp_path / "tiny")
    assert job.data.train == job.data.validation == str(tmp_path / "rows.jsonl")


def test_a_dated_file_is_today_s_and_said(recipe, tmp_path: Path) -> None:
    day = tmp_path / "2026-11-21"
    day.mkdir()
    (day / "rows-2026-11-21.jsonl").touch()
    text = "model: a/b\ndata: {train: '{date}/rows-{date}.jsonl', test: rows.jsonl}\n"
    request = recipe(text, today="2026-11-21")
    assert request.job.data.train == str(day / "rows-2026-11-21.jsonl")
    (said,) = (s for s in request.settings if s.key == "data.train")
    assert said.value == request.job.data.train
    assert said.instead_of == str(tmp_path / "{date}" / "rows-{date}.jsonl")
    by_flag = recipe(BASE, data="{date}/rows-{date}.jsonl", today="2026-11-21")
    assert by_flag.job.data.train == request.job.data.train
    assert by_flag.settings[-1].source == "--data"


def test_a_missing_dated_file_names_the_newest(recipe, tmp_path: Path) -> None:
    for name in ("2026-11-19", "2026-11-20", "2026-11-2x", "2027-01-01b"):
        (tmp_path / f"new[rows]-{name}.jsonl").touch()
    text = "model: a/b\ndata: new[rows]-{date}.jsonl\n"
    with pytest.raises(BadInput) as caught:
        recipe(text, today="2026-11-21")
    assert f"data.train: no file {tmp_path}/new[rows]-2026-11-21.jsonl; the newest" in str(
        caught.value
    )
    assert f"is {tmp_path}/new[rows]-2026-11-20.jsonl" in str(caught.value)
    with pytest.raises(BadInput, match=r"none for another day matches .*/old-\{date\}\.jsonl"):
        recipe("model: a/b\ndata: old-{date}.jsonl\n", today="2026-11-21")


def test_a_hub_id_is_no_path_unless_it_is_there(recipe, tmp_path: Path) -> None:
    text = "model: a/b\ndata: {train: 'org/rows@v1:train_sft', test: rows.jsonl}\n"
    data = recipe(text).job.data
    assert data.train == "org/rows@v1:train_sft"
    assert recipe(BASE, data="org/rows").job.data.train == "org/rows"
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "rows.jsonl").touch()
    assert recipe(BASE, data="org/rows.jsonl").job.data.train.startswith("/")
    with pytest.raises(BadInput, match="no file"):
        recipe(BASE, data="./org/rows")


def test_flags_win_and_say_what_they_replaced(recipe) -> None:
    request = recipe(
        BASE + "lora: {r: 8}\nbudget: {max_cost: 5}\n", max_cost=10.0, sets=("lora.r=4",)
    )
    assert request.job.lora.r == 4
    assert request.budget.max_cost_microusd == 10_000_000
    said = {s.key: (s.value, s.source, s.instead_of) for s in request.settings[-2:]}
    assert said["lora.r"][:2] == ("4", "--set lora.r=4")
    assert said["lora.r"][2].startswith("8 (")
    assert said["budget.max_cost"][1] == "--max-cost"


def test_another_model_leaves_nothing_of_the_old_one(recipe) -> None:
    text = "model: {id: a/b, revision: abc, init: random}\ndata: rows.jsonl\n"
    model = recipe(text, model="Qwen/Qwen2.5-0.5B").job.model
    assert (model.id, model.revision, model.init) == ("Qwen/Qwen2.5-0.5B", None, "pretrained")


def test_how_to_serve_the_model(recipe) -> None:
    text = BASE + "serve:\n  temperature: 0\n  system: |\n    Answer in JSON.\n    Be brief.\n"
    serve = recipe(text, sets=("serve.quantization=q8_0",)).job.serve
    assert (serve.temperature, serve.quantization, serve.top_p) == (0.0, "q8_0", None)
    assert serve.system == "Answer in JSON.\nBe brief.\n"
    with pytest.raises(BadInput, match=r"serve\.quantization"):
        recipe(BASE + "serve: {quantization: q4}\n")


def test_what_this_machine_costs_is_in_micro_dollars(recipe) -> None:
    request = recipe(BASE, sets=("budget.local_usd_per_hour=0.135",))
    assert request.budget.local_microusd_per_hour == 135_000
    assert recipe(BASE).budget.local_microusd_per_hour == 0
    with pytest.raises(BadInput, match=r"budget\.local_usd_per_hour: expected `float` >= 0\.0"):
        recipe(BASE + "budget: {local_usd_per_hour: -1}\n")


def test_an_image_of_the_recipe_of_a_flag_or_set(recipe) -> None:
    text = BASE + "image: me/train:1\n"
    assert recipe(BASE).budget.image == ""
    assert recipe(text).budget.image == "me/train:1"
    assert recipe(text, sets=("image=me/train:2",)).budget.image == "me/train:2"
    request = recipe(text, image="me/train:3")
    assert request.budget.image == "me/train:3"
    (said,) = request.settings
    assert (said.key, said.source) == ("image", "--image")
    assert said.instead_of.startswith("me/train:1 (")
    assert recipe(text, sets=("image=null",)).budget.image == ""


def test_more_rows_at_once_than_a_step_has_are_as_many(recipe) -> None:
    job = recipe(BASE + "train: {effective_batch: 3, micro_batch: 8}\n").job
    assert job.train.micro_batch == 8


def test_scientific_notation_is_a_number(recipe) -> None:
    assert recipe(BASE + "train: {learning_rate: 5e-5}\n").job.train.learning_rate == 5e-5


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        (BASE + "lora: {rr: 8}\n", {}, "recipe.yaml: lora.rr: unknown key; did you mean `lora.r`?"),
        (BASE + "epochs: 3\n", {}, "did you mean `train.epochs`?"),
        (BASE + "lora: {learning_rat: 1}\n", {}, "did you mean `train.learning_rate`?"),
        (
            BASE + "lora: {modules_to_save: [x]}\n",
            {},
            "lora.modules_to_save: unknown key; known keys: lora.r, lora.alpha, lora.dropout,",
        ),
        (BASE, {"seq_len": 0}, "--seq-len: train.seq_len: expected `int` >= 8, got 0"),
        (BASE, {"micro_batch": 0}, "--micro-batch: train.micro_batch: expected `int` >= 1"),
        (BASE, {"micro_batch": 3}, "--micro-batch: train.micro_batch 3 does not divide"),
        (BASE, {"rank": 0}, "--rank: lora.r: expected `int` >= 1, got 0"),
        (BASE, {"swept": ("lora.r=0",)}, "--sweep lora.r=0: lora.r: expected `int` >= 1, got 0"),
        (BASE + "lora: {r: 0}\n", {}, "lora.r: expected `int` >= 1, got 0"),
        (BASE + "lora: {r: many}\n", {}, "lora.r: expected `int`, got 'many'"),
        (BASE + "budget: {max_cost: -1}\n", {}, "budget.max_cost: expected `float` >= 0.0"),
        (BASE + "gates: [{metric: a, mim: 1}]\n", {}, "did you mean `gates.min`?"),
        (BASE + "lora: {r: 8}\nlora: {r: 9}\n", {}, "line 4: not YAML: key `lora` stands twice"),
        (BASE, {"strategy": "qlorra"}, "--strategy: strategy: expected one of auto, qlora"),
        (BASE, {"max_cost": -3.0}, "--max-cost: budget.max_cost: expected `float` >= 0.0"),
        (BASE, {"max_cost": float("nan")}, "--max-cost: budget.max_cost"),
        (BASE, {"image": "me/train 1"}, "--image: image: expected NAME[:TAG][@sha256:...], as in"),
        (
            BASE + "image: docker:me/a:1\n",
            {},
            "recipe.yaml: image: expected NAME[:TAG][@sha256:...",
        ),
        (BASE + "image: 1\n", {}, "image: expected `str | null`, got 1"),
        (
            BASE + "train: {effective_batch: 12, micro_batch: 5}\n",
            {},
            "recipe.yaml: train.micro_batch 5 does not divide train.effective_batch 12; 4 does",
        ),
        (
            BASE + "train: {micro_batch: 16}\n",
            {"sets": ("train.effective_batch=24",)},
            "--set train.effective_batch=24: train.micro_batch 16 does not divide",
        ),
        (
            BASE + "train: {seq_len: 99999999999999999999}\n",
            {},
            "train.seq_len: expected `int` <= 16777216, got 99999999999999999999",
        ),
        (BASE + "train: {epochs: 1e9}\n", {}, "train.epochs: expected `float` <= 1000000"),
        (
            BASE,
            {"sets": ("train.max_grad_norm=.inf",)},
            "--set train.max_grad_norm=.inf: train.max_grad_norm: expected `float` <= 1000000000.0",
        ),
        (BASE + "serve: {temperature: .inf}\n", {}, "serve.temperature: expected `float` <="),
        (BASE + "gates: [{metric: loss, max: .inf}]\n", {}, "gates[0]: a bound of loss is no"),
        (
            BASE + "train: {effective_batch: 65537}\n",
            {},
            "train.effective_batch: expected `int` <=",
        ),
        (BASE + "train: {micro_batch: 65537}\n", {}, "train.micro_batch: expected `int` <= 65536"),
        (BASE + "lora: {r: 99999999999}\n", {}, "lora.r: expected `int` <= 65536"),
        (BASE + "lora: {dropout: 1}\n", {}, "lora.dropout: expected `float` < 1.0, got 1"),
        (BASE + "seed: 4294967296\n", {}, "seed: expected `int` <= 4294967295, got 4294967296"),
        (BASE + 'name: "a\\n"\n', {}, "name: expected `str` matching regex"),
        (BASE + "lora: {alpha: 99999999999}\n", {}, "lora.alpha: expected `int` <= 1048576"),
        (
            BASE + "eval: {limit: 9999999999999}\n",
            {},
            "eval.limit: expected `int` <= 1099511627776",
        ),
        (BASE, {"sets": ("lora.r",)}, "expected KEY=VALUE"),
        (BASE, {"sets": ("lora.zz=1",)}, "--set lora.zz=1: lora.zz: unknown key"),
        (BASE, {"data": "none.jsonl"}, "--data: data.train: no file"),
        ("model: ./none\ndata: rows.jsonl\n", {}, "model.id: no folder"),
        ("data: rows.jsonl\n", {}, "no `model`: give it in the recipe or with --model"),
        (BASE + "? [a, b]\n: 1\n", {}, "line 3: not YAML: a key must be a word"),
        (BASE + "1: 2\n", {}, "line 3: not YAML: a key must be a word"),
        ("- a\n", {}, "expected keys and values, got a list"),
        ("a: [\n", {}, "not YAML"),
    ],
)
def test_bad_recipes_say_where_what_and_nearest(recipe, text, flags, expected) -> None:
    with pytest.raises(BadInput) as caught:
        recipe(text, **flags)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_recipe_the_sample(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = load(None, Flags())
    assert request.recipe.endswith("sample.yaml")
    assert request.job.model.init == "random"


def test_another_model_without_a_recipe_gets_the_defaults(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = load(None, Flags(model="Qwen/Qwen2.5-7B-Instruct"))
    assert request.recipe == "strategy defaults with the sample data"
    assert request.job.train.learning_rate == 2e-4
    assert request.job.data.train.endswith("train.jsonl")


def test_own_data_are_not_held_to_the_sample_s_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "completion": "a"}\n')
    request = load(None, Flags(model="org/model", data=str(rows)))
    assert request.recipe == "strategy defaults"
    assert (request.job.data.train, request.job.data.validation) == (str(rows), None)
    assert request.job.gates == ()


def test_launch_yaml_in_the_working_folder_comes_first(recipe, tmp_path: Path) -> None:
    (tmp_path / "launch.yaml").write_text(BASE + "name: mine\n")
    assert load(None, Flags()).job.name == "mine"


def test_set_says_more_of_what_model_and_data_replace(tmp_path: Path) -> None:
    for name in ("new.jsonl", "held.jsonl"):
        (tmp_path / name).write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {id: org/old, init: random}\ndata: {train: gone.jsonl, test: gone}\n")
    sets = ("model.revision=abc", f"data.validation={tmp_path}/held.jsonl")
    flags = Flags(model="org/new", data=str(tmp_path / "new.jsonl"), sets=sets)
    job = load(str(recipe), flags).job
    assert (job.model.id, job.model.init, job.model.revision) == ("org/new", "pretrained", "abc")
    assert (job.data.test, job.data.validation) == (None, str(tmp_path / "held.jsonl"))


def test_assumed_rows_are_refused_beside_data(recipe) -> None:
    with pytest.raises(BadInput, match="--rows stands in for data"):
        recipe(BASE, rows=5, rows_given=True)


def test_other_data_keys_leave_the_rows_assumed(recipe) -> None:
    request = recipe("model: a/b\ndata: {validation_share: 0.2}\n", rows=5)
    assert (request.assumed_rows, request.job.data.validation_share) == (5, 0.2)
