"""`python -m jobs.check`: what a job would find in its rows, said before one is started."""

import json
import os
import shutil
import subprocess
import sys

import msgspec
import pytest
from transformers import AutoTokenizer

from jobs.data import read_lines
from jobs.encode import Encoder
from jobs.spec.check import DataCheck
from tests.jobs.short_job import ROOT, SAMPLE, write_job

LONG = {"prompt": "word " * 200, "completion": "answer"}
SHORT = {"prompt": "Dogs?", "completion": " floor 2 only"}
BROKEN = "{% for m in messages %}{{ raise_exception('only odd turns') }}{% endfor %}"


def check(folder, code=0, **environment):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jobs.check", "spec.json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return msgspec.json.decode(done.stdout, type=DataCheck) if code == 0 else done.stderr


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def model(tmp_path):
    """The sample's model with another tokenizer: `change` is given it before it is saved."""

    def changed(change):
        folder = tmp_path / "model"
        shutil.copytree(SAMPLE / "model", folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        change(tokenizer)
        tokenizer.save_pretrained(folder)
        return {"id": str(folder), "init": "random"}

    return changed


def test_sound_rows_are_counted_as_the_job_counts_them(tmp_path):
    folder = write_job(tmp_path / "job", train_rows=20)
    found = check(folder)
    assert (found.skipped, found.refused, found.problems) == ("", 0, ())
    assert found.rows["train"] == 20
    assert found.rows["validation"] == 8
    encoder = Encoder(AutoTokenizer.from_pretrained(SAMPLE / "model"), 10_000, True)
    sizes = {
        str(line): len(encoder.encode(line)["input_ids"])
        for name in ("train", "validation")
        for line in read_lines(folder / f"{name}.jsonl")
    }
    assert found.longest_tokens == max(sizes.values()) == sizes[found.longest_at]
    assert found.cut == sum(size > 128 for size in sizes.values())
    assert found.template == "marked"


def test_torch_is_not_waited_for(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    folder = write_job(tmp_path / "job")
    found = check(folder, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (found.skipped, found.refused, found.template) == ("", 0, "marked")


def test_rows_that_truncation_leaves_without_an_answer_are_named(tmp_path):
    folder = write_job(tmp_path / "job")
    (folder / "train.jsonl").write_text(
        lines(SHORT, *({**LONG, "prompt": f"{i} {LONG['prompt']}"} for i in range(4)))
    )
    (folder / "validation.jsonl").write_text(lines(SHORT | {"prompt": "Cats?"}))
    found = check(folder)
    assert found.refused == 4
    assert len(found.problems) == 3
    assert "train.jsonl:2: no supervised tokens after cutting" in found.problems[0]
    assert found.cut == 4
    assert found.template == "marked"


def test_a_missing_pad_token_is_said_and_another_serves(tmp_path, model):
    def without(tokenizer):
        tokenizer.pad_token = None

    found = check(write_job(tmp_path / "job", model=model(without)))
    assert found.own_pad_token is None
    assert found.pad_token == "<|endoftext|>"
    assert found.refused == 0


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path, model):
    def without(tokenizer):
        tokenizer.eos_token = None

    found = check(write_job(tmp_path / "job", model=model(without)))
    assert found.refused == 1
    assert "has no end token" in found.problems[0]


@pytest.mark.parametrize("template", [BROKEN, "{% for m in messages %}"], ids=["refuses", "syntax"])
def test_a_broken_template_refuses_every_conversation(tmp_path, model, template):
    def with_it(tokenizer):
        tokenizer.chat_template = template

    found = check(write_job(tmp_path / "job", train_rows=5, model=model(with_it)))
    assert found.refused == 13  # 5 to train on, 8 that judge
    assert "train.jsonl:1: the chat template refuses this row" in found.problems[0]


def test_a_template_that_opens_answers_otherwise_than_training_is_doubted(tmp_path, model):
    def thinking(tokenizer):
        tokenizer.chat_template += "{% if add_generation_prompt %}<think>{% endif %}"

    found = check(write_job(tmp_path / "job", model=model(thinking)))
    assert found.refused == 0
    (doubt,) = found.doubts
    assert doubt.startswith("8 questions: the model's own chat template opens an answer with")


def test_the_texts_of_a_regression_are_looked_at_too(tmp_path):
    regression = {"dimensions": ["clear"]}
    folder = write_job(tmp_path / "job", task="regression", regression=regression, gates=[])
    rows = [{"text": "word " * n, "scores": {"clear": n % 10}} for n in range(1, 300, 20)]
    (folder / "train.jsonl").write_text(lines(*rows))
    (folder / "validation.jsonl").write_text(lines({"text": "other", "scores": {"clear": 3}}))
    found = check(folder)
    assert found.refused == 0
    assert found.longest_at.endswith("train.jsonl:15")
    assert found.longest_tokens > 281
    assert found.cut > 0


def test_replayed_and_golden_rows_are_part_of_it(tmp_path):
    folder = write_job(
        tmp_path / "job",
        data={"train": "train.jsonl", "validation": "validation.jsonl", "replay": "old.jsonl"},
        eval={"golden": "golden.jsonl", "max_new_tokens": 8, "batch": 4},
    )
    (folder / "old.jsonl").write_text(lines(*({**SHORT, "prompt": f"old {i}"} for i in range(40))))
    (folder / "golden.jsonl").write_text(lines({**SHORT, "prompt": "golden"}))
    found = check(folder)
    assert found.rows == {"train": 64 + 16, "validation": 8, "golden": 1}
    assert found.problems == ()


def test_data_that_changed_since_the_plan_is_a_problem(tmp_path):
    folder = write_job(tmp_path / "job", train_sha256="0" * 64)
    (problem,) = check(folder).problems
    assert "has changed since the run was planned" in problem


def test_a_hub_model_that_is_not_in_the_cache_is_skipped(tmp_path):
    folder = write_job(tmp_path / "job", model={"id": "org/model"})
    home = tmp_path / "hub"
    cached = home / "models--org--model"
    found = check(folder, HF_HUB_CACHE=str(home))
    assert found.skipped == "the tokenizer of org/model is not in the Hub's cache"
    shutil.copytree(SAMPLE / "model", cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    found = check(folder, HF_HUB_CACHE=str(home))
    assert (found.skipped, found.rows["train"]) == ("", 64)


def test_no_spec_is_bad_input(tmp_path):
    assert "spec.json" in check(tmp_path, code=2)
