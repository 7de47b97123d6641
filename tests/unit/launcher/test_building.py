"""What the engine is told to build, and what is said of an image."""

import itertools
from pathlib import Path

import pytest

from launcher import building
from launcher.building import BuildFlags
from launcher.errors import BadInput
from launcher.executors import image


def test_docker_is_told_what_to_build(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").touch()
    flags = BuildFlags(
        target="cloud", base="debian:12", pip_conf=str(tmp_path / "pip.conf"), network="host"
    )
    given = building.arguments("docker", flags, "c0ffee")
    assert given[:5] == ["build", "--file", "images/train.Dockerfile", "--target", "cloud"]
    assert given[5:7] == ["--tag", f"loralift-train:{image.content()}-cloud"]
    values = [word for flag, word in itertools.pairwise(given) if flag == "--build-arg"]
    assert "BASE_IMAGE=debian:12" in values
    assert "REVISION=c0ffee" in values
    assert given[-5:] == [
        *("--secret", f"id=pip.conf,src={tmp_path}/pip.conf"),
        *("--network", "host", "."),
    ]


def test_podman_builds_in_dockers_format() -> None:
    given = building.arguments("podman", BuildFlags(), "")
    assert "--format" in given
    assert not any(word.startswith("BASE_IMAGE") for word in given)


def test_a_secret_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no file"):
        building.arguments("docker", BuildFlags(ca=str(tmp_path / "none.pem")), "")


def test_the_dockerfile_takes_every_argument_that_is_given() -> None:
    text = image.context()[image.DOCKERFILE].read_text()
    for name in image.build_arguments("debian:12", ""):
        assert f"{name}" in text.replace("ARG BASE_IMAGE=", "ARG BASE_IMAGE ")


def test_a_push_needs_a_name_that_a_registry_takes() -> None:
    with pytest.raises(BadInput, match="expected NAME"):
        building.push("docker://registry.example/x", "cloud", None)
    with pytest.raises(BadInput, match="only after the push"):
        building.push("registry.example/x@sha256:" + "0" * 64, "cloud", None)
