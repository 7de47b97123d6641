"""A job whose machine is gone goes on in another folder, from its store."""

import shutil
import subprocess
import sys
import time

from jobs import layout
from results.stored_run import state
from results.stores import open_store
from tests.jobs.short_job import ROOT, Forked, curve, finish, holding, write_job

SECONDS = 600  # until a test that waits says that it waited in vain


def sync(work, store, *more):
    command = [sys.executable, "-P", "-m", "results.sync", "--store", str(store)]
    return subprocess.Popen(
        [*command, "--run", str(work), "--interval", "0.2", *more],
        env={"PYTHONPATH": str(ROOT)},
        cwd=work,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_whose_machine_dies_ends_as_if_it_had_not(tmp_path):
    whole = write_job(tmp_path / "whole")
    assert finish(whole)[0] == 0

    store = tmp_path / "store"
    work = write_job(tmp_path / "work", run_id="run-1")
    # past that checkpoint, and no further: its upload may take as long as the rest of the job
    job, beside = Forked(work, holding(12)), sync(work, store)
    marker = store / "run-1" / layout.CHECKPOINTS / "checkpoint-10" / layout.COMPLETE
    deadline = time.monotonic() + SECONDS
    while not marker.exists():
        assert job.poll() is None, (work / layout.LOG).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.kill()
    job.wait()
    beside.kill()
    beside.communicate()
    assert state(open_store(str(store)), "run-1") == "partial"
    shutil.rmtree(work / layout.CHECKPOINTS)

    new = write_job(tmp_path / "new", run_id="run-1")
    restoring = sync(new, store, "--restore")
    said = restoring.communicate(timeout=SECONDS)[1]
    assert restoring.returncode == 0, said
    beside = sync(new, store)
    code, result = finish(new)
    said = beside.communicate(timeout=SECONDS)[1]
    assert code == 0
    assert beside.returncode == 0, said
    assert result.resumed_from_step >= 10
    assert curve(new) == curve(whole)
    weights = f"{layout.ADAPTER}/adapter_model.safetensors"
    assert (new / weights).read_bytes() == (whole / weights).read_bytes()
    assert state(open_store(str(store)), "run-1") == "complete"
    assert (store / "run-1" / weights).read_bytes() == (whole / weights).read_bytes()
