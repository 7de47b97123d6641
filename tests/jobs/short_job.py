"""A short job as a child process, on a slice of the sample; shared by the tests of whole jobs."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.progress import read_records
from jobs.spec import Result, StepRecord

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "jobs" / "sample"


def write_job(folder, train_rows=64, **changes):
    """A short job, packed and quantised, with dropout: all that could differ between runs."""
    folder.mkdir()
    for name, count in (("train", train_rows), ("validation", 8)):
        lines = (SAMPLE / f"{name}.jsonl").read_text().splitlines(keepends=True)[:count]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    spec = {
        "run_id": folder.name,
        "model": {"id": str(SAMPLE / "model"), "init": "random"},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "strategy": "qlora",
        "quantization": {"kind": "nf4", "double": True},
        "dtype": "fp32",
        "device": "cpu",
        "train": {
            "epochs": 2,
            "learning_rate": 4e-3,
            "seq_len": 128,
            "effective_batch": 2,
            "micro_batch": 1,
            "activation_checkpointing": True,
            "log_every_steps": 2,
            "checkpoint_every_steps": 5,
        },
        "eval": {"max_new_tokens": 8, "batch": 4},
        "gates": [{"metric": "json_citation_rate", "min": 0.9}],
    }
    spec.update(changes)
    (folder / layout.SPEC).write_text(json.dumps(spec))
    return folder


def start(folder, **environment):
    with (folder / layout.LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs.train", layout.SPEC],
            cwd=folder,
            stdout=log,
            stderr=log,
            # One thread: what is computed must not hang on what else the machine does.
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        )


# Importing torch, transformers and TRL takes 6 s of CPU, most short jobs' steps take 3. The server
# has imported them once; what it forks is a process like any other, with a job's own state.
WARM = "tests.jobs.warm"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([WARM])


class Forked:
    """A job whose libraries were imported before it was forked; what of Popen is asked here."""

    def __init__(self, folder, before="", **environment):
        self._process = FORKS.Process(target=work, args=(folder, before, environment))
        self._process.start()

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked job", timeout)
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()


def work(folder, before, environment):
    """In the forked process: `before` is run, then the job as `python -m jobs.train` runs it."""
    assert WARM in sys.modules, "the server could not import it, and says nothing"
    os.chdir(folder)
    log = os.open(layout.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(environment)
    exec(before, {})
    from jobs.train import main

    sys.exit(main([layout.SPEC]))


GO = "go"  # a file in the job's folder
HOLDING = """
import time
from pathlib import Path
from jobs.progress import Progress
from jobs.stop import Stop

write, request, asked = Progress.write, Stop.request, []

def write_and_hold(self, record):
    write(self, record)
    while getattr(record, "step", 0) >= STEP and not (asked or Path(GO).exists()):
        time.sleep(0.02)

def note(self, *why):
    asked.append(why)
    request(self, *why)

Progress.write, Stop.request = write_and_hold, note
"""


def holding(step):
    """To be run before a job that a test stops or kills: it has this step's record written and goes
    no further until it is told to stop, or let go. Else it may be done before the test has acted.
    """
    return f"STEP, GO = {step}, {GO!r}\n{HOLDING}"


def let_go(folder):
    (folder / GO).touch()


def finish(folder, begin=Forked):
    code = begin(folder).wait(timeout=600)
    return code, result(folder)


def result(folder):
    return msgspec.json.decode((folder / layout.RESULT).read_bytes(), type=Result)


def curve(folder):
    records = [r for r in read_records(folder / layout.METRICS) if isinstance(r, StepRecord)]
    return [(r.step, r.loss, r.learning_rate, r.grad_norm) for r in records]


def wait_for_step(folder, step, process):
    while process.poll() is None:
        if any(row[0] >= step for row in curve(folder)):
            return
        time.sleep(0.02)
    pytest.fail(f"the job ended before step {step}:\n{(folder / layout.LOG).read_text()}")
