"""The sample job in a container, by a real Docker and a real Podman."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import ResolvedSpec
from launcher.catalog.local import survey
from launcher.executors import executor, image
from launcher.executors.base import Executor, Order, Sight
from launcher.executors.container import name_for
from launcher.running.endings import ending
from launcher.types import MIB
from results.sums import sha256_of
from tests.integration.command import ROOT
from tests.integration.containers.engines import HOOK, Docker, Podman
from tests.integration.containers.launching import ContainerCommand, losses, short_run

CARDS = "NVIDIA A10|23028|0|8.6|0;NVIDIA A10|23028|0|8.6|0"


def test_a_run_is_the_same_in_a_container_and_sees_its_folder_alone(
    engine: Docker | Podman, process_run: tuple, tmp_path: Path
) -> None:
    reference, _ = process_run
    launch = ContainerCommand(tmp_path, engine.variables)
    flags = () if engine.name == "docker" else ("--executor", engine.name)  # docker: by itself
    folder, result, said = short_run(launch, "contained", *flags)
    assert f"in a container of {engine.name}" in said
    assert losses(folder) == losses(reference)
    weights = f"{layout.ADAPTER}/adapter_model.safetensors"
    assert sha256_of(folder / weights) == sha256_of(reference / weights)

    could = result["metrics"]["tuned"]
    told = {name.partition("/")[2]: value for name, value in could.items() if "/" in name}
    assert told == {
        "no_write_to_data": 1.0,
        "no_write_to_image": 1.0,
        "no_network": 1.0,
        "interfaces": 1,  # loopback
        "no_capabilities": 1.0,
        "no_new_privileges": 1.0,
        "uid": os.getuid(),
        "process_1": 1.0,
    }
    assert (tmp_path / "outside").read_text() == ""
    assert all(path.stat().st_uid == os.getuid() for path in folder.rglob("*"))
    assert engine.ask("ps", "--all", "--quiet") == ""
    assert "loss" in launch("logs", "contained").stdout


def test_as_a_process_the_same_probes_are_let_through(process_run: tuple) -> None:
    """Else the test above would hold anywhere."""
    _, result = process_run
    assert result["metrics"]["tuned"]["confined/no_write_to_data"] == 0.0


def started(
    engine: Docker | Podman, process_run: tuple, run_id: str, memory_bytes: int | None = None
) -> tuple[Executor, str]:
    """The job alone, without a ledger: its executor and its handle."""
    reference, _ = process_run
    spec = msgspec.json.decode((reference / layout.SPEC).read_bytes(), type=ResolvedSpec)
    spec = msgspec.structs.replace(spec, run_id=run_id, deadline=None)
    offer = next(o for o in survey("2026-11-22").offers if o.device.kind == "cpu")
    if memory_bytes is not None:
        device = msgspec.structs.replace(offer.device, usable_bytes=memory_bytes)
        offer = msgspec.structs.replace(offer, device=device)
    runner = executor(engine.name)
    handle = runner.handle(run_id, 1)
    runner.submit(handle, Order(spec=spec, offer=offer, task=None, up_by=None), print)
    return runner, handle


def over(runner: Executor, handle: str) -> Sight:
    """The last look at a job, once it has ended."""
    deadline = time.monotonic() + 300
    while (seen := runner.look(handle)).alive:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(runner.poll_seconds)
    return seen


def test_too_much_memory_is_told_as_that(
    engine: Docker | Podman, here: Path, process_run: tuple
) -> None:
    runner, handle = started(engine, process_run, "greedy", memory_bytes=200 * MIB)
    change = ending(over(runner, handle), 1)
    assert (change.state, change.reason) == ("FAILED", "OUT_OF_MEMORY")
    assert "more memory than its container may" in change.message
    assert not Path("oom").exists()
    assert engine.ask("ps", "--all", "--quiet") == ""


def test_a_cancelled_job_saves_and_says_so(
    engine: Docker | Podman, here: Path, process_run: tuple
) -> None:
    runner, handle = started(engine, process_run, "cancelled")
    assert runner.look(handle).started
    runner.cancel(handle)
    change = ending(runner.look(handle), 1)
    assert (change.state, change.reason) == ("CANCELLED", "CANCELLED")
    assert engine.ask("ps", "--all", "--quiet") == ""


def test_a_killed_container_is_lost(
    engine: Docker | Podman, here: Path, process_run: tuple
) -> None:
    runner, handle = started(engine, process_run, "killed")
    work = runner.folder(handle)
    engine.ask("kill", "--signal", "KILL", name_for(work))
    change = ending(over(runner, handle), 1)
    assert (change.state, change.reason) == ("FAILED", "LOST")
    assert "exit code 137" in (work / layout.LOG).read_text()


def test_a_job_outlives_its_engines_daemon(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process_run: tuple
) -> None:
    for name, value in {**docker.variables, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    runner, handle = started(docker, process_run, "orphaned")
    docker.kill()
    try:
        assert runner.look(handle).alive  # by its lock
        seen = over(runner, handle)
        assert seen.result is not None
        assert seen.result.failure is None
    finally:
        docker.start()
    over(runner, handle)  # the first looks that its engine answers
    assert docker.ask("ps", "--all", "--quiet") == ""


def submit_for_gpu(
    engine: Docker | Podman, process_run: tuple, nvml: Path, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Another process submits the job for GPU 1 of two, as NVML here shows them."""
    reference, _ = process_run
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.containers.submit", engine.name, "1"],
        cwd=ROOT,
        env={
            **os.environ,
            **engine.variables,
            "XDG_STATE_HOME": str(folder / "state"),
            "LD_LIBRARY_PATH": str(nvml),
            "NVML_CARDS": CARDS,
            "LORALIFT_PRETEND_GPU": "1",  # torch finds none: trained on the processor
        },
        input=(reference / layout.SPEC).read_text(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_gpu_that_the_engine_cannot_hand_over_is_one_clear_line(
    engine: Docker | Podman, here: Path, process_run: tuple, nvml: Path
) -> None:
    done = submit_for_gpu(engine, process_run, nvml, here)
    assert done.returncode == 4, done.stderr
    first, second = done.stderr.strip().splitlines()
    assert first.startswith(f"{engine.name} cannot hand A10 to a container: ")
    assert second == "install NVIDIA's container toolkit, or --executor process"
    assert engine.ask("ps", "--all", "--quiet") == ""


@pytest.fixture
def toolkit(docker: Docker, tmp_path: Path) -> Path:
    """Docker with a stand-in for NVIDIA's hook, which puts the library into the container; returns
    that library: without it the hook does nothing, as a broken driver's."""
    library = tmp_path / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "fixtures" / "nvml_stand_in.c"
    compile_ = ["gcc", "-shared", "-fPIC", f'-DCARDS="{CARDS}"', "-o", str(library), str(source)]
    subprocess.run(compile_, check=True)
    hook = tmp_path / "bin" / HOOK
    hook.parent.mkdir()
    hook.write_text(
        "#!/usr/bin/python3\n"
        "import json, os, shutil, sys\n"
        "bundle = json.load(sys.stdin)['bundle']\n"
        "root = json.load(open(bundle + '/config.json'))['root']['path']\n"
        f"if os.path.exists({str(library)!r}):\n"
        f"    shutil.copy({str(library)!r}, root + '/usr/lib/x86_64-linux-gnu/')\n"
    )
    hook.chmod(0o755)
    docker.stop()
    docker.start(hook.parent)
    return library


def test_the_planned_gpu_is_the_one_inside(
    docker: Docker, process_run: tuple, toolkit: Path, nvml: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in docker.variables.items():
        monkeypatch.setenv(name, value)
    done = submit_for_gpu(docker, process_run, nvml, tmp_path)
    assert done.returncode == 0, done.stderr
    runner, handle = executor("docker"), done.stdout.strip()
    assert runner.look(handle).started  # it looks at the cards before the job begins
    runner.cancel(handle)
    toolkit.unlink()
    done = submit_for_gpu(docker, process_run, nvml, tmp_path)
    assert done.returncode == 0, done.stderr
    change = ending(over(runner, handle), 2)
    assert change.reason == "BAD_INPUT"
    assert "GPU-stand-in-1 was planned, and the container has no NVIDIA driver" in change.message


def test_the_image_says_what_it_is(docker: Docker, tmp_path: Path) -> None:
    launch = ContainerCommand(tmp_path, docker.variables)
    done = launch("images", "check", "--engine", "docker", "--json")
    assert done.returncode == 0, done.stderr
    states = {c["name"]: c["state"] for c in json.loads(done.stdout)["checks"]}
    assert states == {"jobs": "ok", "architecture": "ok", "driver": "ok", "size": "ok"}
    config = json.loads(docker.ask("image", "inspect", image.reference()))[0]["Config"]
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"][-3:] == ["-P", "-m", "jobs.train"]
    assert config["Labels"]["org.opencontainers.image.version"]
    run = ("run", "--rm", "--network", "none", "--entrypoint", "sh", image.reference(), "-c")
    leftovers = "command -v gcc cc; ls -A /root/.cache; ls /etc/pip.conf /run/secrets; true"
    assert docker.ask(*run, leftovers) == ""
    lock_hash = "sha256sum /opt/loralift/requirements.lock | cut -c1-16"
    assert docker.ask(*run, f"test -f /opt/loralift/envs/$({lock_hash})/ready && echo ready")
