"""What halts a canary's job, on real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from launcher.running.canary.halting import script


def test_the_script_kills_the_watchdog_and_halts_what_else_is_of_the_run():
    """On real processes; those of another run, and of none, go on."""
    ours = f"halted-{os.getpid()}"  # other tests may run on this machine
    sleeping = [sys.executable, "-c", "import time; time.sleep(120)"]

    def start(run_id: str, *words: str) -> "subprocess.Popen[bytes]":
        spec = json.dumps({"run_id": run_id, "seed": 1}, separators=(",", ":"))
        return subprocess.Popen([*sleeping, *words], env={"LORALIFT_SPEC": spec})

    watchdog = start(ours, "-m", "jobs.watchdog")
    other = start(f"{ours}0", "-m", "jobs.watchdog")
    processes = [watchdog, other]
    try:
        assert asked_to_halt(ours) == ""  # its job has not begun
        assert watchdog.poll() is None
        job = start(ours, "-m", "jobs.distributed")
        processes.append(job)
        found = json.loads(asked_to_halt(ours))
        assert found == {"killed": f" {watchdog.pid}", "halted": f" {job.pid}", "moving": ""}
        assert watchdog.wait(10) == -9
        assert "T (stopped)" in Path(f"/proc/{job.pid}/status").read_text()
        assert "T (stopped)" not in Path(f"/proc/{other.pid}/status").read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def asked_to_halt(run_id: str) -> str:
    done = subprocess.run(["sh", "-c", script(run_id)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
