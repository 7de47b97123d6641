"""A content filter, whole: real prose, computed scores, `launch filter`, and asked again."""

import json
import statistics
import subprocess
from pathlib import Path

import pytest

from benchmarks.passages import DIMENSIONS, oracle, rows
from jobs import layout
from tests.integration.command import ROOT, Command

ROWS = 1200
SAMPLE = ROOT / "jobs" / "sample" / "model"
# The recipe, on a base that is small enough for a minute of a CPU: it knows nothing, so the rate
# is higher and there is nothing to warm up.
SMALL = {
    "model.init": "random",
    "strategy": "qlora",
    "regression.dimensions": f"[{', '.join(DIMENSIONS)}]",
    "regression.tiers": "[{name: low, min: 0}, {name: high, min: 3.5}]",
    "train.epochs": "3",
    "train.learning_rate": "1e-3",
    "train.warmup_steps": "0",
    "train.seq_len": "128",
    "lora.dropout": "0.0",
    "train.activation_checkpointing": "false",
    "gates": "[{metric: mae, max: 1.7}]",
}
ASK = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.load(sys.stdin)
inputs = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
with torch.inference_mode():
    scores = model(**inputs).logits.tolist()
names = [model.config.id2label[i] for i in range(len(scores[0]))]
print(json.dumps([dict(zip(names, row)) for row in scores]))
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Command, dict]:
    launch = Command(tmp_path_factory.mktemp("student"))
    (launch.folder / "verses.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows(ROWS, seed=1))
    )
    sets = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    flags = ("--data", "verses.jsonl", "--model", str(SAMPLE), "--on", "local", "--json")
    done = launch("filter", *flags, *sets, timeout=900)
    assert done.returncode in (0, 5), done.stderr
    return launch, json.loads(done.stdout)


def test_it_is_far_better_than_the_mean_on_texts_it_never_saw(student) -> None:
    _, answer = student
    found = answer["result"]
    print(json.dumps(found["metrics"], indent=1))
    tuned, constant = found["metrics"]["tuned"], found["metrics"]["constant"]
    assert found["evaluated_on"] == "test"
    assert tuned["mae"] < 0.8 * constant["mae"]
    assert all(tuned[f"mae/{d}"] < constant[f"mae/{d}"] for d in DIMENSIONS)
    assert tuned["tier_accuracy"] > constant["tier_accuracy"]
    assert found["fit"]["verdict"]
    assert found["intervals"]["tuned"]["mae"]["n"] == ROWS // 10


def test_predict_scores_new_texts_and_says_how_fast(student) -> None:
    launch, answer = student
    new = rows(ROWS + 200, seed=1)[-100:]  # the seed draws other verses with another count
    known = {row["text"] for row in rows(ROWS, seed=1)}
    texts = [row["text"] for row in new if row["text"] not in known]
    assert len(texts) > 50
    file = launch.folder / "new.csv"
    file.write_text(
        "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts) if '"' not in t)
    )
    done = launch("predict", answer["run_id"], "new.csv", "--out", "scores.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    lines = (launch.folder / "scores.jsonl").read_text().splitlines()
    assert summary["texts"] == len(lines) == len(texts)
    print(f"p50 {summary['latency_p50_seconds']:.4f} s, p95 {summary['latency_p95_seconds']:.4f} s")
    off = [
        abs(score - oracle(texts[int(row["id"])])[name])
        for row in map(json.loads, lines)
        for name, score in row["scores"].items()
    ]
    assert statistics.mean(off) < 0.85 * answer["result"]["metrics"]["constant"]["mae"]


def test_the_merged_student_is_a_folder_that_transformers_loads(student, train_python) -> None:
    launch, answer = student
    home = Path(answer["folder"])
    done = launch("export", answer["run_id"], "--to", "merged")
    assert done.returncode == 0, done.stderr
    merged = home.with_name(home.name + layout.EXPORT_SUFFIX) / layout.MERGED
    samples = [json.loads(line) for line in (home / layout.SAMPLES).read_text().splitlines()][:20]
    asked = subprocess.run(
        [train_python, "-P", "-c", ASK, str(merged)],
        input=json.dumps([sample["question"] for sample in samples]),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    off = [
        abs(score - json.loads(sample["tuned"])[name])
        for sample, scores in zip(samples, json.loads(asked.stdout), strict=True)
        for name, score in scores.items()
    ]
    # The adapter was trained beside 4-bit weights and is merged into whole ones.
    assert statistics.mean(off) < 0.5
    refused = launch("export", answer["run_id"], "--to", "gguf:q8_0")
    assert refused.returncode == 2
    assert "--to merged" in refused.stderr


def test_the_report_says_how_it_fits(student) -> None:
    launch, answer = student
    done = launch("report", answer["run_id"])
    assert done.returncode == 0, done.stderr
    assert answer["result"]["fit"]["verdict"] in done.stdout
