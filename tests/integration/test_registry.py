"""`launch images check REF` and plans with it: a real registry, asked by the real skopeo."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobs.spec import WIRE_VERSION
from launcher.executors import image
from launcher.planning.resolve import CUDA
from tests.integration.command import Command
from tests.servers import registry
from tests.servers.registry import Registry

OURS = {
    image.WIRE_LABEL: str(WIRE_VERSION),
    image.CONTENT_LABEL: image.content(),
    image.LOCK_LABEL: image.lock_sha256(),
    image.CUDA_LABEL: CUDA,
}


@dataclass
class Customer(Command):
    """`launch` of somebody who trusts that registry."""

    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {"XDG_CACHE_HOME": str(self.folder / "cache")}
        return super().environment | own | self.variables

    def checked(self, reference: str, code: int = 0) -> dict[str, dict[str, str]]:
        done = self("images", "check", reference, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return {one["name"]: one for one in json.loads(done.stdout)["checks"]}

    def refused(self, reference: str, code: int) -> str:
        done = self("images", "check", reference)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) <= 3
        return done.stderr


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [name for name in ("docker-registry", "skopeo", "podman") if not shutil.which(name)]
    if missing:
        why = f"not installed: apt-get install {' '.join(missing)}"
        assert not os.environ.get("REQUIRE_ALL"), why
        pytest.skip(why)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def launch(server: Registry, tmp_path: Path) -> Customer:
    return Customer(tmp_path, server.environment)


def test_an_image_of_this_version_is_told_by_its_registry_and_counted(
    launch: Customer, server: Registry
) -> None:
    reference = server.put("me/train:1", {"architecture": "amd64", "labels": OURS})
    rented = ("--on", "runpod", "--max-cost", "10", "--image", reference, "--dry-run", "--json")
    assert "not known" in pull(launch(*rented))
    found = launch.checked(reference)
    assert {name: one["state"] for name, one in found.items()} == dict.fromkeys(
        ("registry", "jobs", "architecture", "driver", "entrypoint", "size"), "ok"
    )
    assert "driver 580.65.06 or newer" in found["driver"]["found"]
    pinned = found["registry"]["next"].split()[0]
    assert pinned.startswith(f"{server.host}/me/train@sha256:")
    assert launch.checked(pinned)["registry"]["next"] == ""
    assert launch.checked(f"{server.host}/me/train:1@{pinned.partition('@')[2]}") == (
        launch.checked(pinned)
    )
    assert pull(launch(*rented)) == f"0.00 GB of {reference}, as its registry has it"


def pull(done: subprocess.CompletedProcess[str]) -> str:
    """Why the chosen offer's image takes so long to pull."""
    assert done.returncode == 0, done.stderr
    chosen = json.loads(done.stdout)["candidates"][0]["estimate"]
    return next(term["why"] for term in chosen["time"] if term["name"] == "image pull")


def test_of_several_platforms_it_is_the_one_that_machines_have(
    launch: Customer, server: Registry
) -> None:
    mine = {"architecture": "amd64", "labels": OURS}
    reference = server.put("me/several:1", {"architecture": "arm64"}, mine)
    found = launch.checked(reference)
    assert (found["architecture"]["found"], found["jobs"]["state"]) == ("amd64", "ok")
    arm = server.put("me/several:2", {"architecture": "arm64"}, {"architecture": "s390x"})
    said = launch.refused(arm, code=2)
    assert f"{arm} is there for linux/arm64, linux/s390x, not for linux/amd64" in said


@pytest.mark.parametrize(
    ("architecture", "labels", "states"),
    [
        ("arm64", OURS, {"architecture": "failed"}),
        ("amd64", None, {"jobs": "failed", "driver": "unknown"}),
        ("amd64", OURS | {image.WIRE_LABEL: "1"}, {"jobs": "failed"}),
        ("amd64", OURS | {image.CONTENT_LABEL: "0"}, {"jobs": "unknown"}),
        ("amd64", OURS | {image.CUDA_LABEL: "12.6"}, {"driver": "unknown"}),
    ],
)
def test_what_does_not_fit_is_said(
    launch: Customer,
    server: Registry,
    architecture: str,
    labels: dict[str, str] | None,
    states: dict[str, str],
) -> None:
    reference = server.put("me/unfit:1", {"architecture": architecture, "labels": labels})
    found = launch.checked(reference, code=1 if "failed" in states.values() else 0)
    told = {name: one["state"] for name, one in found.items() if one["state"] != "ok"}
    assert told == states


def test_one_built_for_containers_here_is_none_for_rented_machines(
    launch: Customer, server: Registry
) -> None:
    entrypoint = ["/opt/loralift/venv/bin/python", "-P", "-m", "jobs.train"]
    mine = {"architecture": "amd64", "labels": OURS, "entrypoint": entrypoint}
    found = launch.checked(server.put("me/local:1", mine), code=1)["entrypoint"]
    assert "built as `local`" in found["found"]
    assert found["next"] == "`launch images build --target cloud`"


def test_what_is_not_there_and_who_does_not_answer(launch: Customer, server: Registry) -> None:
    absent = f"{server.host}/me/nothing:1"
    assert f"its registry has no {absent}" in launch.refused(absent, code=2)
    assert "expected NAME" in launch.refused("docker://me/train", code=2)
    nobody = "127.0.0.1:9/me/train:1"  # the discard port
    said = launch.refused(nobody, code=4)
    assert f"the registry of {nobody} cannot be asked: " in said
    assert "connection refused" in said
    launch.variables = {**launch.variables, "PATH": str(launch.folder)}
    assert "skopeo is not on PATH" in launch.refused(absent, code=2)


def test_a_private_image_is_shown_to_the_engines_login_and_no_machine_has_that(
    tmp_path: Path,
) -> None:
    with registry.running(tmp_path / "private", is_private=True) as server:
        launch = Customer(tmp_path, server.environment)
        reference = server.put("me/train:1", {"architecture": "amd64", "labels": OURS})
        said = launch.refused(reference, code=2)
        assert f"its registry does not show us {reference}" in said
        assert "`podman login`" in said
        subprocess.run(
            ["podman", "login", "--username", registry.USER, "--password-stdin", server.host],
            input=registry.PASSWORD,
            env=launch.environment,
            text=True,
            check=True,
            capture_output=True,
        )
        found = launch.checked(reference)
        assert found["registry"]["state"] == "unknown"
        assert "for your login alone" in found["registry"]["found"]
        assert found["jobs"]["state"] == "ok"


def test_a_paid_run_is_not_started_with_an_image_that_is_not_there(
    launch: Customer, server: Registry
) -> None:
    def asked(reference: str) -> dict[str, str]:
        flags = ("--on", "runpod", "--max-cost", "10", "--image", reference, "--json")
        checks = json.loads(launch("doctor", *flags).stdout)["job"]
        return next(one for one in checks if one["name"] == "image")

    there = server.put("me/train:1", {"architecture": "amd64", "labels": OURS})
    assert asked(there)["state"] == "ok"
    absent = asked(f"{server.host}/me/nothing:1")
    assert (absent["state"], "its registry has no" in absent["found"]) == ("failed", True)
