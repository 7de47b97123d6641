"""Which executor a local run gets, with engines that are scripts on PATH."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import BadInput
from launcher.executors import engines, image
from launcher.executors.here import EXECUTOR_VARIABLE, local_executor

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
    local_executor.cache_clear()

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return put


def test_without_an_engine_it_is_a_process() -> None:
    assert local_executor("cpu") == ("process", "as a process: neither docker nor podman is here")


def test_the_first_engine_that_has_the_image_is_taken(install: Install) -> None:
    install("docker", NO_IMAGE)
    install("podman", HAS_IMAGE)
    assert local_executor("cpu") == ("podman", "in a container of podman, which has the image")


def test_why_no_engine_is_taken_is_one_line(install: Install) -> None:
    install("docker", NO_DAEMON)
    install("podman", NO_IMAGE_PODMAN)
    name, why = local_executor("cpu")
    assert name == "process"
    assert why == (
        "as a process: docker image: Cannot connect to the Docker daemon. Is it running?; "
        "podman has no image of this version (`launch images build` makes it)"
    )


def test_a_daemon_that_hangs_is_given_up(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("docker", "exec /bin/sleep 60")
    monkeypatch.setattr(engines.Engine.ask, "__kwdefaults__", {"seconds": 0.2})
    name, why = local_executor("cpu")
    assert name == "process"
    assert "docker image gave no answer in 0.2 s" in why


def test_an_image_of_another_wire_version_is_not_taken(install: Install) -> None:
    install("docker", """echo '{"loralift.wire_version": "1"}'""")
    assert "its jobs read wire_version 1, this launcher writes 2" in local_executor("cpu").why


def test_a_gpu_needs_what_hands_it_over(install: Install) -> None:
    install("docker", HAS_IMAGE)
    assert local_executor("cuda").name == "process"
    assert "without nvidia-container-runtime-hook" in local_executor("cuda").why
    local_executor.cache_clear()
    install("nvidia-container-runtime-hook", "")
    assert local_executor("cuda").name == "docker"


@pytest.mark.parametrize("asked", ["process", "docker", "podman"])
def test_what_is_asked_for_is_taken_unseen(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, asked)
    assert local_executor("cpu").name == asked


def test_an_unknown_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "lxc")
    with pytest.raises(BadInput, match="expected auto, process, docker, podman"):
        local_executor("cpu")


def test_a_named_interpreter_is_a_process(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("docker", HAS_IMAGE)
    monkeypatch.setenv("LORALIFT_TRAIN_PYTHON", os.path.realpath("/bin/sh"))
    assert local_executor("cpu").name == "process"


def test_the_images_name_follows_from_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image.context()
    for name in ("images/train.Dockerfile", "images/requirements.lock", "jobs/train.py"):
        assert before[name].is_file()
    assert not any("__pycache__" in name for name in before)
    changed = tmp_path / "train.py"
    changed.write_text("another job")
    monkeypatch.setattr(image, "context", lambda: before | {"jobs/train.py": changed})
    assert image.content.__wrapped__() != image.content()
