"""Whole jobs as child processes: short ones, on a slice of the sample."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from jobs import layout
from jobs.checkpoint import last_complete, step_of
from jobs.exit_codes import EXIT_CODES
from jobs.progress import read_records
from jobs.spec import EvalRecord, PhaseRecord
from tests.jobs.short_job import (
    ROOT,
    Forked,
    curve,
    finish,
    holding,
    result,
    start,
    wait_for_step,
    write_job,
)

PHASES = ["load", "data", "longest_batch", "evaluate_base", "train", "save", "evaluate", "done"]

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(folders):
    """A job that nothing disturbed."""
    folder = write_job(folders / "whole")
    code, _ = finish(folder, start)
    assert code == 0, (folder / layout.LOG).read_text()
    return folder


def test_a_job_says_what_it_did(whole):
    found = result(whole)
    assert (found.status, found.failure, found.run_id) == ("success", None, "whole")
    assert list(found.seconds_by_phase) == PHASES
    records = read_records(whole / layout.METRICS)
    assert [r.phase for r in records if isinstance(r, PhaseRecord)] == PHASES
    assert [r.step for r in records if isinstance(r, EvalRecord)] == [0, found.steps]
    assert found.steps == curve(whole)[-1][0] > 15
    assert curve(whole)[-1][1] < curve(whole)[0][1]
    assert found.tokens > 2 * 64 * 20
    assert found.peak_memory_bytes > 100e6
    assert found.memory_metric == "peak resident set"
    assert set(found.metrics) == {"base", "tuned", "constant"}
    assert found.metrics["tuned"]["loss"] < found.metrics["base"]["loss"]
    assert [gate.metric for gate in found.gates] == ["json_citation_rate"]
    assert {"python", "torch", "trl", "peft", "bitsandbytes"} <= set(found.versions)


def test_quantised_parameters_are_counted_whole(whole):
    layers = 3 * (4 * 256 * 256 + 3 * 256 + 3 * 256 * 256 + 2 * 256)  # with biases and norms
    found = result(whole)
    assert found.parameters_total == layers + 2 * 768 * 256 + 256
    assert found.parameters_trainable == 3 * 7 * 16 * (256 + 256)


def test_nothing_that_must_be_unpickled_lies_beside_the_weights(whole):
    names = {p.name for p in (whole / layout.ADAPTER).iterdir()}
    assert "adapter_model.safetensors" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not list(whole.rglob("*.part"))


def test_the_log_is_quiet(whole):
    for line in (whole / layout.LOG).read_text().splitlines():
        assert line.startswith(("step ", "20", "data.", "longest batch: ")), line


def test_checkpoints_are_whole_and_few(whole):
    kept = sorted(step_of(p) for p in (whole / layout.CHECKPOINTS).iterdir())
    assert len(kept) == 2
    assert kept[-1] == result(whole).steps
    assert step_of(last_complete(whole / layout.CHECKPOINTS)) == kept[-1]


def test_the_adapter_loads_and_answers_the_same(whole):
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    base = PeftConfig.from_pretrained(whole / layout.ADAPTER).base_model_name_or_path
    assert base == str(whole / layout.BASE)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=quantised, device_map="cpu"
    )
    model = PeftModel.from_pretrained(model, whole / layout.ADAPTER).eval()
    tokenizer = AutoTokenizer.from_pretrained(whole / layout.ADAPTER)
    samples = [json.loads(s) for s in (whole / layout.SAMPLES).read_text().splitlines()]
    assert len(samples) == 8
    for sample in samples:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": sample["question"]}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = model.generate(**ids, max_new_tokens=8, do_sample=False)
        new = output[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True) == sample["tuned"]
        assert sample["tuned"] != sample["base"]


def test_killed_and_started_again_it_draws_the_same_curve(whole, folders):
    folder = write_job(folders / "killed")
    process = Forked(folder, holding(8))
    wait_for_step(folder, 8, process)
    process.kill()
    process.wait()
    assert not (folder / layout.RESULT).exists()
    torn = folder / layout.CHECKPOINTS / "checkpoint-99"
    torn.mkdir()
    base_answers = (folder / layout.BASE_ANSWERS).read_bytes()

    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert found.resumed_from_step in (5, 10, 15)
    assert not torn.exists()
    assert (folder / layout.BASE_ANSWERS).read_bytes() == base_answers
    assert curve(folder) == curve(whole)
    assert found.metrics == result(whole).metrics
    assert found.tokens == result(whole).tokens


def test_sigterm_finishes_the_step_and_saves(whole, folders):
    folder = write_job(folders / "cancelled")
    process = Forked(folder, holding(2))
    wait_for_step(folder, 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == EXIT_CODES["CANCELLED"]
    found = result(folder)
    assert found.failure.reason == "CANCELLED"
    saved = last_complete(folder / layout.CHECKPOINTS)
    assert step_of(saved) == found.steps == curve(folder)[-1][0]
    # Stopping makes one record more, for the last steps; those before it are as they were.
    assert curve(folder)[:-1] == curve(whole)[: len(curve(folder)) - 1]


TOLD_TO_STOP_AT_ONCE = """
import os, signal
from jobs import layout, train
def told(path, content, write=train.write_aside):
    write(path, content)
    if path.name == layout.PID:
        os.kill(os.getpid(), signal.SIGTERM)
train.write_aside = told
"""


def test_who_knows_its_number_is_heard(folders):
    folder = write_job(folders / "stopped")
    assert Forked(folder, TOLD_TO_STOP_AT_ONCE).wait(timeout=600) == EXIT_CODES["CANCELLED"]
    assert result(folder).failure.reason == "CANCELLED"


def test_a_deadline_in_any_phase_leaves_a_result(folders):
    deadline = datetime.now(UTC) + timedelta(seconds=2)  # while the libraries are imported
    folder = write_job(folders / "late", deadline=deadline.isoformat())
    code, found = finish(folder, start)
    assert (code, found.failure.reason) == (EXIT_CODES["DEADLINE"], "DEADLINE")
    assert list(found.seconds_by_phase) == ["load"]


def test_a_lost_result_is_made_again_without_training(whole, folders):
    """As after a crash in evaluation: the last checkpoint is at the last step."""
    before, lines = result(whole), curve(whole)
    (whole / layout.RESULT).unlink()
    code, found = finish(whole)
    assert code == 0, (whole / layout.LOG).read_text()
    assert found.resumed_from_step == found.steps == before.steps
    assert found.metrics == before.metrics
    assert found.tokens == before.tokens
    assert curve(whole) == lines


def test_a_lost_result_of_training_that_ends_amid_an_epoch_is_made_again_without_a_step(folders):
    folder = write_job(folders / "half")
    spec = json.loads((folder / layout.SPEC).read_text())
    spec["train"]["epochs"] = 0.5
    (folder / layout.SPEC).write_text(json.dumps(spec))
    code, before = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    lines = curve(folder)
    (folder / layout.RESULT).unlink()
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert found.resumed_from_step == found.steps == before.steps
    assert found.metrics == before.metrics
    assert curve(folder) == lines


def test_a_finished_job_is_not_done_again(whole):
    before = (whole / layout.RESULT).stat().st_mtime_ns
    assert start(whole).wait(timeout=600) == 0
    assert (whole / layout.RESULT).stat().st_mtime_ns == before


def test_full_training_on_completions_with_rows_held_out(folders):
    folder = write_job(
        folders / "full",
        strategy="full",
        quantization=None,
        data={"train": "pairs.csv", "test": "test.json", "validation_share": 0.2},
        lora={"dropout": 0.0},
        train={"effective_batch": 8, "micro_batch": 4, "packing": False, "seq_len": 64,
               "epochs": 1, "optimizer": "adamw_torch"},
    )  # fmt: skip
    pairs = [{"prompt": f"{i} and one is ", "completion": f"{i + 1}"} for i in range(40)]
    cells = (f"{p['prompt']},{p['completion']}\n" for p in pairs)
    (folder / "pairs.csv").write_text("prompt,completion\n" + "".join(cells))
    new = {"prompt": "40 and one is ", "completion": "41"}
    (folder / "test.json").write_text(json.dumps({"rows": [pairs[3], new]}))
    code, found = finish(folder)
    log = (folder / layout.LOG).read_text()
    assert code == 0, log
    assert "data.train: 31 rows (31 prompt/completion)" in log
    assert found.warnings[0].startswith("1 rows of data.train are left out")
    assert found.evaluated_on == "test"
    assert found.adapter == layout.MODEL
    assert found.parameters_trainable == found.parameters_total
    assert (folder / layout.MODEL / "model.safetensors").is_file()
    assert found.steps == 4
    assert set(found.metrics["tuned"]) == {"loss", "perplexity", "exact_match"}


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_an_epoch_is_chosen_by_the_loss_that_the_result_has(folders, micro_batch):
    """Per token, however many rows of unlike length are evaluated at once."""
    folder = write_job(
        folders / f"chosen{micro_batch}",
        train_rows=8,
        train={"epochs": 1, "effective_batch": 4, "micro_batch": micro_batch, "seq_len": 128,
               "packing": False, "select_by": "loss"},
        eval={"generate": False, "compare_base": False},
        gates=[],
    )  # fmt: skip
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    records = read_records(folder / layout.METRICS)
    (chosen,) = (r for r in records if isinstance(r, EvalRecord) and r.epoch is not None)
    assert chosen.loss == pytest.approx(found.metrics["tuned"]["loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": {"train": "broken.jsonl"}}, "broken.jsonl:2: "),
        ({"data": {"train": "empty.jsonl"}}, "empty.jsonl: the data set is empty"),
        ({"model": {"id": "./no-such-model"}}, "model.id: no folder"),
        ({"model": {"id": "org/model", "init": "random"}}, "init: random needs a folder"),
        ({"strategy": "qora"}, "Invalid enum value 'qora'"),
        ({"wire_version": 99}, "wire_version 99"),
    ],
)
def test_bad_input_is_told_in_a_second(tmp_path, changes, what):
    folder = write_job(tmp_path / "bad", **changes)
    (folder / "broken.jsonl").write_text('{"text": "whole"}\n{"text": \n')
    (folder / "empty.jsonl").write_text("")
    code, found = finish(folder, start)
    assert (code, found.failure.reason) == (2, "BAD_INPUT")
    assert what in found.failure.message
    assert found.versions == {}  # torch was not even imported


def test_two_jobs_do_not_share_a_folder(tmp_path):
    folder = write_job(tmp_path / "held")
    with (folder / layout.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert start(folder).wait(timeout=600) == 2
    assert not (folder / layout.RESULT).exists()


def test_a_lock_that_is_handed_over_is_held(tmp_path):
    """By a launcher, which took it before the job was started."""
    folder = write_job(tmp_path / "handed", strategy="qora")
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((folder / layout.LOCK).open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-P", "-m", "jobs.train", layout.SPEC]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            layout.LOCK_VARIABLE: str(lock.fileno()),
        }
        subprocess.run(command, cwd=folder, env=environment, pass_fds=(lock.fileno(),), timeout=600)
    assert result(folder).failure.reason == "BAD_INPUT"
