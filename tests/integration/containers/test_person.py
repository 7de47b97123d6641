"""The sample job in a container of somebody who is not root, as most people are. Podman without
root is tests/soak's: it has storage of its own, and takes minutes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import layout
from results.sums import sha256_of
from tests.integration.containers.engines import Docker
from tests.integration.containers.launching import SHORT, ContainerCommand, lay_out_data, losses
from tests.integration.containers.person import Person, person


@pytest.fixture(scope="module")
def somebody(docker: Docker) -> Iterator[Person]:
    with person() as found:
        yield found


def judge(launch: ContainerCommand, who: Person, engine: str, process_run: tuple) -> None:
    """It learns what a process of root's learns, and what it leaves is theirs."""
    reference, _ = process_run
    flags = ("--run-id", engine, "--executor", engine, "--json", *SHORT)
    done = launch("sample", "--data", str(lay_out_data(launch)), *flags, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"in a container of {engine}" in done.stderr
    folder = who.home / "runs" / engine
    assert losses(folder) == losses(reference)
    weights = f"{layout.ADAPTER}/adapter_model.safetensors"
    assert sha256_of(folder / weights) == sha256_of(reference / weights)
    assert {path.stat().st_uid for path in folder.rglob("*")} == {who.uid}


def test_a_daemon_of_root_s_by_a_user_of_its_group(
    somebody: Person, docker: Docker, process_run: tuple
) -> None:
    address = docker.variables["DOCKER_HOST"]
    socket = Path(address.removeprefix("unix://"))
    shutil.chown(socket, group=somebody.name)
    for place in (socket.parent, socket.parent.parent):
        place.chmod(0o711)
    judge(somebody.launch(DOCKER_HOST=address), somebody, "docker", process_run)
