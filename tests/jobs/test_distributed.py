"""One job in two processes on the CPU (gloo): the same curve, one voice, one ending."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jobs import layout
from jobs.checkpoint import last_complete, step_of
from jobs.exit_codes import EXIT_CODES
from jobs.outcome import BadInput
from jobs.spec import Failure, ResolvedSpec
from tests.jobs.short_job import (
    ROOT,
    Forked,
    curve,
    holding,
    let_go,
    result,
    wait_for_step,
    write_job,
)

pytestmark = pytest.mark.filterwarnings("default")

TRAIN = {"epochs": 2, "learning_rate": 4e-3, "seq_len": 96, "effective_batch": 4,
         "micro_batch": 1, "packing": False, "checkpoint_every_steps": 4}  # fmt: skip

# The same sums in another order: one process adds four micro-batches' gradients, two add two each
# and then average. Over these 12 steps a loss differed by 4.6e-6 at most, a gradient's norm by
# 6.9e-6, the tuned model's loss by 4.8e-7 (2026-11-21, this test, relative). Rounding grows from
# step to step, and another CPU sums otherwise: twenty times that is allowed. Ranks that did not
# share their gradients differed by 0.04 in the third step.
TOLERANCE = 1e-4


def write(folder, **changes):
    """No dropout: two processes draw other masks than one."""
    changes = {"train": TRAIN, "lora": {"dropout": 0.0}, "eval": {"max_new_tokens": 4}} | changes
    return write_job(folder, train_rows=24, **changes)


def start_ranks(folder, *command, before=""):
    """In the job's folder, one thread each, with a place of their own for what is temporary. With
    what each Python of theirs is to run first."""
    temporary = temporary_of(folder)
    temporary.mkdir(exist_ok=True)
    first = folder.with_name(f"{folder.name}-first")
    first.mkdir(exist_ok=True)
    (first / "sitecustomize.py").write_text(before)
    path = f"{first}{os.pathsep}{ROOT}"
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    with (folder / layout.LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", *command, layout.SPEC],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | own,
        )


def temporary_of(folder):
    return folder.with_name(f"{folder.name}-tmp")


def ranks_of(process):
    """The ranks by number, once both are there."""
    found = {}
    while len(found) < 2 and process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(process.pid).children():
                if "RANK" in child.environ():
                    found[int(child.environ()["RANK"])] = child
        time.sleep(0.02)
    return found


def log(folder):
    return (folder / layout.LOG).read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def alone(runs):
    folder = write(runs / "alone")
    assert Forked(folder).wait(timeout=600) == 0, log(folder)
    return folder


@pytest.fixture(scope="module")
def shared(runs):
    folder = write(runs / "shared", processes=2)
    assert start_ranks(folder, "jobs.distributed").wait(timeout=600) == 0, log(folder)
    return folder


def test_two_processes_draw_the_curve_of_one(alone, shared):
    one, two = curve(alone), curve(shared)
    assert [row[0] for row in one] == [row[0] for row in two]
    for a, b in zip(one, two, strict=True):
        assert b[1] == pytest.approx(a[1], rel=TOLERANCE)
        assert b[2] == a[2]  # the learning rate
        assert b[3] == pytest.approx(a[3], rel=TOLERANCE)


def test_they_reach_the_same_metrics_and_count_the_same_tokens(alone, shared):
    one, two = result(alone), result(shared)
    assert (two.status, two.steps, two.tokens) == ("success", one.steps, one.tokens)
    for subject in ("base", "tuned"):
        assert two.metrics[subject] == pytest.approx(one.metrics[subject], rel=TOLERANCE)
    assert [gate.passed for gate in two.gates] == [gate.passed for gate in one.gates]


def test_rank_0_alone_speaks(alone, shared):
    own = [line for line in log(shared).splitlines() if line.startswith("step ")]
    assert len(own) == len(curve(shared)) == len(set(own))
    assert len(log(shared).splitlines()) == len(log(alone).splitlines())
    assert (shared / layout.SAMPLES).read_text().count("\n") == 8


def test_nothing_temporary_stays_behind(shared):
    left = [file.name for file in temporary_of(shared).iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []  # torch's cache


def test_a_pilot_s_ranks_share_their_gradients_and_leave_no_trace(runs, shared):
    pilot = {"examples": 6, "steps": 3, "max_loss_ratio": 9, "answers_must_parse": False}
    folder = write(runs / "piloted", processes=2, pilot=pilot)
    assert start_ranks(folder, "jobs.distributed").wait(timeout=600) == 0, log(folder)
    assert curve(folder) == curve(shared)
    assert result(folder).pilot.steps == 3


def test_a_signal_to_one_rank_stops_all_and_both_go_on_together(runs, shared):
    folder = write(runs / "stopped", processes=2)
    process = start_ranks(folder, "jobs.distributed", before=holding(2))
    ranks = ranks_of(process)
    wait_for_step(folder, 2, process)
    ranks[1].send_signal(signal.SIGTERM)
    let_go(folder)
    assert process.wait(timeout=600) == EXIT_CODES["CANCELLED"], log(folder)
    found = result(folder)
    assert found.failure.reason == "CANCELLED", log(folder)
    assert not any(rank.is_running() for rank in ranks.values())
    saved = last_complete(folder / layout.CHECKPOINTS)
    assert step_of(saved) == found.steps

    assert start_ranks(folder, "jobs.distributed").wait(timeout=600) == 0, log(folder)
    assert result(folder).resumed_from_step == found.steps
    assert curve(folder)[-1] == pytest.approx(curve(shared)[-1], rel=TOLERANCE)


def test_a_killed_rank_ends_all_with_one_result_that_names_it(runs):
    folder = write(runs / "killed", processes=2)
    process = start_ranks(folder, "jobs.distributed", before=holding(2))
    ranks = ranks_of(process)
    wait_for_step(folder, 2, process)
    ranks[1].kill()
    assert process.wait(timeout=600) == 1, log(folder)
    found = result(folder)
    assert found.failure.reason == "ERROR"
    assert "rank 1 was killed by SIGKILL" in found.failure.message
    assert not any(rank.is_running() for rank in ranks.values())
    assert not list(folder.glob("*.part"))


def test_no_rank_outlives_the_process_that_started_it(runs):
    folder = write(runs / "orphaned", processes=2)
    process = start_ranks(folder, "jobs.distributed", before=holding(2))
    ranks = ranks_of(process)
    wait_for_step(folder, 2, process)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(ranks.values(), timeout=600)
    assert (len(gone), alive) == (2, [])
    assert result(folder).failure.reason == "CANCELLED"


STOPPED_EARLY = """
import os, signal, sys
from pathlib import Path
from jobs import layout
from jobs.distributed import Nodes, Ranked

FOLDER = Path.cwd()

class Stopper:
    def find_spec(self, name, *_):
        if name == "torch":
            (FOLDER / layout.STOP).write_text('{"reason": "DEADLINE", "message": "time is up"}')
            os.kill(int((FOLDER / layout.PID).read_text()), signal.SIGTERM)

assert "torch" not in sys.modules
(FOLDER / layout.STOP).write_text('{"reason": "STALLED", "message": "of an earlier attempt"}')
sys.meta_path.insert(0, Stopper())
sys.exit(Ranked(FOLDER, FOLDER / layout.SPEC, "run-1", Nodes(1, 0, "127.0.0.1", 2)).run())
"""


def test_a_stop_before_there_are_ranks_leaves_a_result_with_its_reason(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", STOPPED_EARLY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert done.returncode == EXIT_CODES["DEADLINE"]
    found = result(tmp_path)
    assert (found.failure.reason, found.failure.message) == ("DEADLINE", "time is up")


def test_ranks_that_had_just_begun_may_leave_no_result(tmp_path):
    from jobs.distributed import settle

    asked = Failure(reason="DEADLINE", message="time is up")
    own = Failure(reason="ERROR", message="rank 1: lost")
    assert settle(tmp_path, "run-1", own, asked) == EXIT_CODES["DEADLINE"]
    assert result(tmp_path).failure == asked
    assert settle(tmp_path, "run-1", own, None) == 1
    assert settle(tmp_path, "run-1", None, asked) == 1  # a result is as its rank wrote it
    assert result(tmp_path).failure == own


def test_torchrun_starts_it_as_well(runs, shared):
    """As does `accelerate launch`, which runs it; then rank 0 takes the lock itself."""
    folder = write(runs / "torchrun")
    started = start_ranks(
        folder, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "jobs.train"
    )
    assert started.wait(timeout=600) == 0, log(folder)
    assert curve(folder) == curve(shared)


def test_a_batch_that_does_not_share_out_is_bad_input(runs):
    folder = write(runs / "uneven", processes=2, train=TRAIN | {"effective_batch": 3})
    assert start_ranks(folder, "jobs.distributed").wait(timeout=600) == 2
    found = result(folder)
    assert found.failure.reason == "BAD_INPUT"
    assert "3 is no multiple of train.micro_batch 1 x 2 processes" in found.failure.message


SPEC = ResolvedSpec(
    run_id="r", model={"id": "a/b"}, data={"train": "x"}, strategy="lora", dtype="bf16",
    device="cuda", quantization=None,
)  # fmt: skip
SKYPILOT = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2",
            "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "4"}  # fmt: skip


def test_skypilot_s_nodes_are_the_job_s():
    import msgspec

    from jobs.distributed import Nodes, nodes_of

    replace = msgspec.structs.replace
    assert nodes_of(SPEC, {}) == Nodes(1, 0, "127.0.0.1", 1)
    assert nodes_of(SPEC, SKYPILOT) == Nodes(2, 1, "10.0.0.1", 4)
    four = replace(SPEC, processes=4, nodes=2)
    assert nodes_of(four, SKYPILOT) == Nodes(2, 1, "10.0.0.1", 2)
    for wrong in (replace(SPEC, processes=12, nodes=2), replace(SPEC, processes=6, nodes=3)):
        with pytest.raises(BadInput):
            nodes_of(wrong, SKYPILOT)
