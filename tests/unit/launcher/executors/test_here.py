"""Which executor a local run gets, with engines that are scripts on PATH."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobs.spec import Model
from launcher.checking.doctor import engine
from launcher.errors import BadInput
from launcher.executors import engines, here, image
from launcher.executors.here import EXECUTOR_VARIABLE, Choice, local_executor
from tests.unit.launcher.executors.test_confinement import SPEC

Install = Callable[[str, str], None]

HAS_IMAGE = """echo '{"loralift.wire_version": "2"}'"""
# As Docker 20.10 and Podman 4.3 say it.
NO_IMAGE = "echo 'Error: No such image: loralift-train:1' >&2; exit 1"
NO_IMAGE_PODMAN = "echo 'Error: inspecting object: loralift-train:1: image not known' >&2; exit 125"
NO_DAEMON = "echo 'Cannot connect to the Docker daemon. Is it running?' >&2; exit 1"


@pytest.fixture(autouse=True)
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts an engine on PATH, which is empty but for that."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(EXECUTOR_VARIABLE, raising=False)
    monkeypatch.delenv("LORALIFT_TRAIN_PYTHON", raising=False)
    here._engine_or_process.cache_clear()

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


def chosen(**changes: object) -> Choice:
    return local_executor(msgspec.structs.replace(SPEC, **changes))


def test_without_an_engine_it_is_a_process() -> None:
    assert chosen() == ("process", "as a process: neither docker nor podman is here")


def test_the_first_engine_that_has_the_image_is_taken(install: Install) -> None:
    install("docker", NO_IMAGE)
    install("podman", HAS_IMAGE)
    assert chosen() == ("podman", "in a container of podman, which has the image")


def test_why_no_engine_is_taken_is_one_short_line(install: Install) -> None:
    install("docker", NO_DAEMON)
    install("podman", NO_IMAGE_PODMAN)
    why = "as a process: no container image; `launch images build` makes one"
    assert chosen() == ("process", why)


def test_what_an_engine_has_against_it_is_the_doctors_to_say(install: Install) -> None:
    found = engine("docker")
    assert (found.state, found.found) == ("missing", "docker is not installed")
    install("docker", NO_DAEMON)
    found = engine("docker")
    assert found.state == "unknown"
    assert found.found == "docker image: Cannot connect to the Docker daemon. Is it running?"
    install("docker", NO_IMAGE)
    found = engine("docker")
    assert (found.state, found.found) == ("missing", "it has no image of this version")
    assert "`launch images build` makes one" in found.next
    install("docker", HAS_IMAGE)
    assert engine("docker").state == "ok"


def test_a_daemon_that_hangs_is_given_up(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("docker", "exec /bin/sleep 60")
    monkeypatch.setattr(engines.Engine.ask, "__kwdefaults__", {"seconds": 0.05, "folder": None})
    assert chosen().name == "process"
    assert "docker image gave no answer in 0.05 s" in engine("docker").found


def test_an_image_of_another_wire_version_is_not_taken(install: Install) -> None:
    install("docker", """echo '{"loralift.wire_version": "1"}'""")
    assert "its jobs read wire_version 1, this launcher writes 2" in chosen().why


def test_a_gpu_needs_what_hands_it_over(install: Install) -> None:
    install("docker", HAS_IMAGE)
    assert chosen(device="cuda").name == "process"
    assert "without nvidia-container-runtime-hook" in chosen(device="cuda").why
    here._engine_or_process.cache_clear()
    install("nvidia-container-runtime-hook", "")
    assert chosen(device="cuda").name == "docker"


def test_what_a_container_would_do_worse_is_a_process(install: Install) -> None:
    install("docker", HAS_IMAGE)
    assert chosen().name == "docker"
    assert chosen(model=Model(id="org/model")) == (
        "process",
        "as a process: a container would fetch the model for each run anew",
    )
    assert chosen(track="wandb").why == "as a process: the image has no packages for wandb"


def test_where_selinux_enforces_it_is_a_process(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("docker", HAS_IMAGE)
    monkeypatch.setattr(here, "SELINUX", tmp_path / "enforce")
    assert chosen().name == "docker"
    here.SELINUX.write_text("1")
    assert chosen() == ("process", "as a process: SELinux keeps containers from the run's folder")


def test_a_tracker_is_not_left_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "docker")
    with pytest.raises(BadInput, match="--track wandb: the image has no packages for it"):
        chosen(track="wandb")


@pytest.mark.parametrize("asked", ["process", "docker", "podman"])
def test_what_is_asked_for_is_taken_unseen(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, asked)
    assert chosen().name == asked


def test_an_unknown_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "lxc")
    with pytest.raises(BadInput, match="expected auto, process, docker, podman"):
        chosen()


def test_a_named_interpreter_is_a_process(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("docker", HAS_IMAGE)
    monkeypatch.setenv("LORALIFT_TRAIN_PYTHON", os.path.realpath("/bin/sh"))
    assert chosen().name == "process"


def test_the_images_name_follows_from_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, named = image.context(), image.content.__wrapped__()
    for name in ("images/train.Dockerfile", "images/requirements.lock", "jobs/train.py"):
        assert before[name].is_file()
    assert not any("__pycache__" in name for name in before)
    changed = tmp_path / "train.py"
    changed.write_text("another job")
    monkeypatch.setattr(image, "context", lambda: before | {"jobs/train.py": changed})
    assert image.content.__wrapped__() != named
