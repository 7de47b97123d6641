"""The main job, whole: planned, trained, evaluated, collected, accounted. And what may go wrong."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from math import log
from pathlib import Path

import pytest

from jobs import layout
from launcher.estimate.calibration import ABSURD
from tests.integration.command import Command
from tests.integration.waiting import wait_for

SECONDS = 180.0  # until a test that waits for a job says that it waited in vain

# A few steps of the sample job, with few answers: for what happens around training.
SHORT = ("--set", "train.epochs=0.5", "--set", "eval.limit=4", "--set", "gates=[]")
SHORT += ("--set", "train.checkpoint_every_steps=2")

# A gate that no few steps reach: it judges the run and changes nothing in its training.
GATED = ("--set", "gates=[{metric: json_citation_rate, min: 0.99}]", "--no-escalate")

LOAD_ADAPTER = """
import sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
folder = sys.argv[1]
model = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)
chat = [{"role": "user", "content": sys.argv[2]}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt",
                                    return_dict=True)
out = model.generate(**ids, max_new_tokens=96, do_sample=False)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
"""


# An own metric, which is tried before training too: it waits when the adapter is saved.
HELD = """
import os, time
def held(answers, references, questions):
    while os.path.exists({file!r}) and os.path.isdir({adapter!r}):
        time.sleep(0.05)
    return 0.0
"""


@contextlib.contextmanager
def held(launch: Command) -> Iterator[tuple[str, ...]]:
    """The flags of a run whose job, within, comes no further than the end of its training, however
    long what is looked at meanwhile takes."""
    file, metric = launch.folder / "held", launch.folder / "held.py"
    metric.write_text(HELD.format(file=str(file), adapter=layout.ADAPTER))
    file.touch()
    try:
        yield "--set", f"eval.metrics=[{metric}:held]"
    finally:
        file.unlink()


def steps(folder: Path) -> list[dict]:
    lines = (folder / layout.METRICS).read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["event"] == "step"]


def curve(folder: Path) -> list[tuple]:
    return [(s["step"], s["loss"], s["grad_norm"], s["learning_rate"]) for s in steps(folder)]


def work(launch: Command, run_id: str) -> Path:
    return launch.folder / "state" / "loralift" / "work" / run_id


@pytest.fixture(scope="module")
def short(
    tmp_path_factory: pytest.TempPathFactory, train_python: str
) -> tuple[Command, subprocess.CompletedProcess[str]]:
    """The run `whole`: a short one, undisturbed, which fails its gate."""
    launch = Command(tmp_path_factory.mktemp("short"))
    return launch, launch(*SHORT, *GATED, "--run-id", "whole")


def test_the_main_job_learns_what_a_constant_answer_cannot(main_run) -> None:
    _, answer = main_run
    metrics = answer["result"]["metrics"]
    print(json.dumps(metrics, indent=1))
    assert metrics["tuned"]["json_citation_rate"] >= 0.90
    assert metrics["tuned"]["refusal_precision"] >= 0.85
    for other in ("base", "constant"):
        assert metrics[other]["json_citation_rate"] <= 0.5
        assert metrics[other].get("refusal_precision", 0.0) <= 0.5
    assert all(gate["passed"] for gate in answer["result"]["gates"])


def test_the_receipt_holds_plan_against_actual(main_run) -> None:
    _, answer = main_run
    lines = {line["name"]: line for line in answer["receipt"]["lines"]}
    assert lines["dollars"]["actual"] == 0
    for name in ("memory", "time", "of it training"):
        assert lines[name]["planned"] > 0
        assert lines[name]["actual"] > 0
    assert lines["memory"]["actual"] <= lines["memory"]["planned_upper"]


def test_the_run_folder_is_whole(main_run) -> None:
    launch, answer = main_run
    home = Path(answer["folder"])
    assert home.parent == launch.folder / "runs"
    for name in ("plan.json", "spec.json", "metrics.jsonl", "result.json", "job.log", "report.md"):
        assert (home / name).stat().st_size > 0
    check = subprocess.run(["sha256sum", "--check", "--quiet", layout.SUMS], cwd=home)
    assert check.returncode == 0
    unsafe = [p for p in home.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert unsafe == []
    assert not work(launch, answer["run_id"]).exists()


def test_the_adapter_loads_with_peft_and_answers(main_run, train_python: str) -> None:
    _, answer = main_run
    home = Path(answer["folder"])
    sample = json.loads((home / layout.SAMPLES).read_text().splitlines()[0])
    command = [train_python, "-c", LOAD_ADAPTER, str(home / layout.ADAPTER), sample["question"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == sample["tuned"].strip()


def test_the_commands_find_the_ended_run(main_run) -> None:
    launch, answer = main_run
    run_id = answer["run_id"]
    assert f"{run_id}: SUCCEEDED" in launch("status", run_id).stdout
    assert run_id in launch("runs").stdout
    assert "train" in launch("logs", run_id).stdout
    assert launch("collect", run_id).stdout.strip() == answer["folder"]
    assert "## Receipt" in launch("report", run_id).stdout
    again = launch("--run-id", run_id)
    assert again.returncode == 2
    assert "has succeeded" in again.stderr


def test_later_estimates_shift_towards_what_the_run_took(main_run, tmp_path: Path) -> None:
    """Its rate is heard, its peak is not: the sample's rows do not fill its micro-batches."""
    launch, answer = main_run
    strategy = ("--strategy", "qlora")

    def estimated(command: Command) -> dict:
        done = command("estimate", *strategy, "--on", "local", "--json")
        return json.loads(done.stdout)["candidates"][0]["estimate"]

    plain, known = estimated(Command(tmp_path)), estimated(launch)
    trained = steps(Path(answer["folder"]))
    tokens = sum(s["tokens_per_second"] * (s["seconds"] - b["seconds"])
                 for b, s in pairwise(trained))  # fmt: skip
    took = (trained[-1]["seconds"] - trained[0]["seconds"]) / tokens
    before, after = (
        sum(t["expected_hours"] for t in e["time"] if t["name"] in ("training", "calibration"))
        * 3600
        / e["train_tokens"]
        for e in (plain, known)
    )
    heard = took / before < ABSURD  # else this machine was shared with too much: not the job's rate
    assert (plain["calibrated_on"], known["calibrated_on"]) == (0, 1 if heard else 0)
    assert known["memory"] == plain["memory"]
    if not heard:
        assert after == before
        return
    assert abs(log(after / took)) < 0.5 * abs(log(before / took))
    shown = launch("estimate", *strategy, "--on", "local").stdout
    assert "training calibrated on 1 run: ×" in shown
    assert "calibrated on 1 run of qlora on" in launch(*strategy, "--dry-run").stdout
    assert launch("collect", answer["run_id"]).returncode == 0  # once more measures nothing anew
    assert estimated(launch)["calibrated_on"] == 1


def test_a_flipped_byte_is_found(main_run) -> None:
    launch, answer = main_run
    path = Path(answer["folder"]) / layout.SAMPLES
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-2] + b"x" + content[-1:])
        done = launch("collect", answer["run_id"])
        assert done.returncode == 4
        assert "samples.jsonl has changed" in done.stderr
    finally:
        path.write_bytes(content)


def test_a_gate_that_fails_is_told_apart(short) -> None:
    launch, done = short
    assert done.returncode == 5, done.stderr
    assert "gates failed: json_citation_rate" in done.stderr
    assert "next: `launch` as before with --strategy lora; $0.00 at worst" in done.stderr
    assert (launch.folder / "runs" / "whole" / layout.ADAPTER).is_dir()


def test_the_saved_spec_reruns_with_the_same_curve(short) -> None:
    launch, _ = short
    runs = launch.folder / "runs"
    spec = runs / "whole" / layout.SPEC
    done = launch(str(spec), "--run-id", "second")
    assert done.returncode == 5, done.stderr  # its gate is the spec's too
    assert len(curve(runs / "whole")) > 4
    assert curve(runs / "whole") == curve(runs / "second")
    refused = launch(str(spec), "--set", "lora.r=4")
    assert refused.returncode == 2
    assert "rerun exactly" in refused.stderr


def test_killing_the_launcher_loses_nothing(launch: Command, train_python: str) -> None:
    with held(launch) as on:
        started = launch.start(*SHORT, *on, "--run-id", "orphan")
        wait_for(lambda: (work(launch, "orphan") / layout.METRICS).exists(), SECONDS)
        wait_for(lambda: steps(work(launch, "orphan")), SECONDS)
        started.kill()
        started.communicate()
        assert "orphan: RUNNING" in launch("status", "orphan").stdout
        assert launch("collect", "orphan").returncode == 2  # not while it works
    assert launch("logs", "orphan", "-f").returncode == 0  # ends with the job
    view = json.loads(launch("status", "orphan", "--json").stdout)
    assert view["run"]["state"] == "SUCCEEDED"
    home = Path(launch("collect", "orphan").stdout.strip())
    assert (home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    seen = steps(home)
    assert [s["step"] for s in seen] == list(range(1, seen[-1]["steps_total"] + 1))


def test_a_killed_job_goes_on_from_its_checkpoint(short) -> None:
    launch, _ = short
    with held(launch) as on:
        started = launch.start(*SHORT, *on, "--run-id", "killed")
        folder = work(launch, "killed")
        wait_for(lambda: list(folder.glob(f"{layout.CHECKPOINTS}/*/{layout.COMPLETE}")), SECONDS)
        os.kill(int((folder / layout.PID).read_text()), signal.SIGKILL)
        _, errors = started.communicate()
    assert started.returncode == 1
    assert "killed FAILED" in errors
    assert "its end:" in errors
    status = launch("status", "killed").stdout
    assert "killed: FAILED (LOST)" in status
    assert "end of its log:" in status
    refused = launch(*SHORT, "--run-id", "killed")
    assert refused.returncode == 2
    again = launch("--run-id", "killed", "--json")
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["result"]["resumed_from_step"] >= 2
    assert answer["receipt"]["attempts"] == 2
    assert curve(launch.folder / "runs" / "killed") == curve(launch.folder / "runs" / "whole")


def test_detached_runs_side_by_side_and_one_cancelled(launch: Command, train_python: str) -> None:
    long = ("--set", "train.epochs=500")
    assert launch(*SHORT, *long, "--run-id", "one", "--detach").returncode == 0
    with held(launch) as on:
        assert launch(*SHORT, *on, "--run-id", "two", "--detach").returncode == 0
        runs = json.loads(launch("runs", "--json").stdout)["runs"]
    assert {r["run_id"]: r["state"] for r in runs} == {"one": "RUNNING", "two": "RUNNING"}
    wait_for(lambda: (work(launch, "one") / layout.METRICS).exists(), SECONDS)
    wait_for(lambda: steps(work(launch, "one")), SECONDS)
    assert launch("cancel", "one").returncode == 0
    result = json.loads((work(launch, "one") / layout.RESULT).read_text())
    assert result["failure"]["reason"] == "CANCELLED"
    assert list(work(launch, "one").glob(f"{layout.CHECKPOINTS}/*/{layout.COMPLETE}"))
    assert "one: CANCELLED" in launch("status", "one").stdout
    assert launch("logs", "two", "-f").returncode == 0
    assert "two: SUCCEEDED" in launch("status", "two").stdout


def test_what_the_job_finds_wrong_is_bad_input_too(launch: Command, train_python: str) -> None:
    # Too few tokens for any answer: only the tokenizer can tell, so only the job does.
    done = launch(*SHORT, "--set", "train.seq_len=8", "--run-id", "cut")
    assert done.returncode == 2, done.stderr
    assert "no supervised tokens" in done.stderr
    assert "train.jsonl:1" in done.stderr


def test_a_hopeless_pilot_ends_the_run_and_says_why(tmp_path: Path, train_python: str) -> None:
    launch = Command(tmp_path)
    flags = ("--run-id", "hopeless", "--pilot", "6", "--set", "train.learning_rate=1e-9", "--json")
    done = launch(*flags, *SHORT, "--set", "pilot.steps=2")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["reason"]) == ("FAILED", "PILOT_FAILED")
    assert answer["result"]["pilot"]["examples"] == 6
    assert answer["result"]["metrics"]["base"]["loss"] > 0
    assert "the loss went from" in answer["message"]
    assert "goes on from the last checkpoint" not in done.stderr
    report = (Path(answer["folder"]) / "report.md").read_text()
    assert "**PILOT_FAILED**" in report


def test_an_own_metric_travels_with_the_run(tmp_path: Path, train_python: str) -> None:
    """Alone: what lies beside it cannot be imported, nor is a user's own `jobs` or `sky`."""
    for name in ("jobs", "sky"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not yours')\n")
    (tmp_path / "beside.py").write_text("secret = 1\n")
    (tmp_path / "checks.py").write_text(
        "import importlib.util\n"
        "def alone(answers, references, questions):\n"
        "    return [float(importlib.util.find_spec('beside') is None) for _ in answers]\n"
    )
    launch = Command(tmp_path)
    metric = f"eval.metrics=[{tmp_path}/checks.py:alone]"
    done = launch("--run-id", "own", "--json", *SHORT, "--set", metric)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["result"]["metrics"]["tuned"]["alone"] == 1.0
    assert answer["result"]["intervals"]["tuned"]["alone"]["n"] == 4
    home = Path(answer["folder"])
    assert (home / "own_metrics" / "checks.py").is_file()
    assert json.loads((home / "gates.json").read_text()) == []
