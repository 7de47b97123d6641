"""Whatever is wrong with the input: one line, exit 2, and nothing is started."""

import json
from pathlib import Path

import pytest

from tests.integration.command import ROOT, Command

GOOD_ROW = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
SAMPLE = str(ROOT / "jobs" / "recipes" / "sample.yaml")


@pytest.fixture
def files(launch: Command) -> Path:
    good = json.dumps(GOOD_ROW) + "\n"
    answerless = json.dumps({"messages": GOOD_ROW["messages"][:1]}) + "\n"
    contents = {
        "good.jsonl": good * 20,
        "broken.jsonl": good * 4 + '{"messages": [\n' + good,
        "empty.jsonl": "",
        "answerless.jsonl": good * 6 + answerless,
        "unknown.yaml": f"model: {{id: {ROOT}/jobs/sample/model}}\ndata: good.jsonl\nlorra: 8\n",
        "no_model.yaml": "data: good.jsonl\n",
    }
    for name, text in contents.items():
        (launch.folder / name).write_text(text)
    return launch.folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("unknown.yaml",), "unknown.yaml: lorra: unknown key; did you mean `lora`?"),
        (("--set", "gates=[{metric: los, max: 1}]"), "no metric los; did you mean loss?"),
        (("--max-cost", "-5"), "--max-cost"),
        (("--max-cost", "ten"), "ten: expected dollars from 0"),
        ((SAMPLE, "--data", "broken.jsonl"), "broken.jsonl line 5: not JSON"),
        ((SAMPLE, "--data", "empty.jsonl"), "the data set is empty"),
        ((SAMPLE, "--data", "answerless.jsonl"), "answerless.jsonl line 7: no text to learn from"),
        (("--model", "./no-such-model"), "no folder"),
        (("--strategy", "qlorra"), "expected one of auto, qlora, lora, full, got 'qlorra'"),
        (("no_model.yaml",), "no_model.yaml: recipe: no `model`: give it in the recipe or with"),
        (("--data", "good.jsonl"), "no `model`"),
        (("sttus", "x"), "did you mean `launch status`?"),
        (("publish", "x"), "Missing option '--hub'"),
        (("--run-id", "../x"), "--run-id ../x: expected letters, digits"),
        (("missing.yaml",), "recipe missing.yaml not found"),
        (("--on", "runpd"), "runpod"),
        (("--gpu", "RTX4099"), "RTX4090"),
        (("status", "nobody"), "no run nobody"),
        (("--no-such-flag",), "--no-such-flag"),
        (("publish", "x", "--hub", "mine"), "--hub mine is no ORG/NAME"),
        (("--sweep", "lora.rr=2,4"), "lora.rr"),
        (("--sweep", "lora.r=2", "--run-id", "../x"), "--run-id ../x: expected letters, digits"),
        ((SAMPLE, SAMPLE, "--show", "task"), "--show"),
    ],
)
def test_one_line_and_exit_2(launch: Command, files: Path, arguments, said: str) -> None:
    done = launch(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert json.loads(launch("runs", "--json").stdout) == {"runs": []}


def test_a_model_that_is_not_what_its_name_says(launch: Command, files: Path) -> None:
    folder = files / "Tiny-7B"
    folder.mkdir()
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    done = launch("--model", "./Tiny-7B", "--max-cost", "10", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "WARNING MODEL SIZE" in done.stdout
    plan = json.loads(launch("--model", "./Tiny-7B", "--dry-run", "--json").stdout)
    assert plan["model"]["parameters"] == 494_032_768
    assert plan["model"]["named_parameters"] == 7e9
    assert plan["candidates"][0]["estimate"]["parameters_total"] == 494_032_768


def test_a_folder_that_stands_where_the_run_would_go(launch: Command) -> None:
    mine = launch.folder / "runs" / "mine"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("all of it")
    done = launch("--run-id", "mine")
    assert done.returncode == 2
    assert "exists already; choose another --run-id" in done.stderr
    assert (mine / "thesis.txt").read_text() == "all of it"
    assert json.loads(launch("runs", "--json").stdout) == {"runs": []}


def test_debug_adds_a_traceback_and_keeps_the_code(launch: Command) -> None:
    done = launch("status", "nobody", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_reader_that_has_had_enough_is_no_error(launch: Command) -> None:
    started = launch.start("offers")
    started.stdout.close()
    assert started.wait(timeout=300) == 0
    started.stderr.close()


def test_nothing_fits_is_exit_3_with_ways_out(launch: Command) -> None:
    arguments = ("--model", "Qwen/Qwen2.5-72B-Instruct", "--on", "runpod", "--max-cost", "0.01")
    done = launch(*arguments, "--dry-run")
    assert done.returncode == 3
    assert done.stderr.startswith("error: nothing fits")
    assert len(done.stderr.strip().splitlines()) <= 3


def test_without_skypilot_a_cloud_is_planned_and_not_submitted_to(
    launch: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.delenv("LORALIFT_SKYPILOT_PYTHON", raising=False)
    arguments = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--on", "runpod", "--max-cost", "10")
    planned = launch(*arguments, "--dry-run")
    assert planned.returncode == 0
    assert "WARNING whether you may rent from RunPod is not known" in planned.stdout
    done = launch(*arguments, "--yes")
    assert done.returncode == 4
    assert "error: skypilot: SkyPilot is not installed" in done.stderr
    assert "not checked: model: URLError" in done.stderr
    assert json.loads(launch("runs", "--json").stdout) == {"runs": []}
