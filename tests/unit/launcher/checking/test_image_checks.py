"""What is said of an image."""

import pytest

from launcher.checking.image_checks import of_here, of_registry, pullable
from launcher.inputs.registered import Registered
from launcher.types import MIB


@pytest.mark.parametrize(
    ("labels", "architecture", "states"),
    [
        ({}, "amd64", ["failed", "ok", "unknown", "ok"]),
        ({"loralift.wire_version": "1"}, "amd64", ["failed", "ok", "unknown", "ok"]),
        (
            {"loralift.wire_version": "2", "loralift.cuda": "13.0"},
            "arm64",
            ["unknown", "failed", "ok", "ok"],
        ),
    ],
)
def test_what_is_wrong_with_an_image_is_said(
    labels: dict[str, str], architecture: str, states: list[str]
) -> None:
    found = list(of_here(labels, architecture, 1800 * MIB))
    assert [check.state for check in found] == states


def test_a_pull_is_what_the_providers_networks_take() -> None:
    image = Registered(
        digest="sha256:" + "0" * 64, architecture="amd64", compressed_bytes=4 * 10**9
    )
    size = list(of_registry("registry.example/me/train:1", image))[-1]
    assert (
        size.found == "4.00 GB compressed, 20-200 s to pull at 200-20 MB/s, as plans count it now"
    )


@pytest.mark.parametrize(
    ("architecture", "is_public", "entrypoint", "state", "said"),
    [
        ("amd64", True, (), "ok", "x/train:1: has sha256:000000000000, 4.00 GB compressed"),
        ("amd64", True, ("/init",), "ok", "x/train:1: has sha256:000000000000"),
        ("amd64", True, ("python", "-m", "jobs.train"), "failed", "it was built as `local`"),
        ("amd64", False, (), "unknown", "for your login alone"),
        ("arm64", True, (), "failed", "arm64; the machines of offers are amd64"),
    ],
)
def test_a_machine_pulls_what_is_public_and_for_it_and_starts(
    architecture: str, is_public: bool, entrypoint: tuple[str, ...], state: str, said: str
) -> None:
    image = Registered(
        digest="sha256:" + "0" * 64,
        architecture=architecture,
        compressed_bytes=4 * 10**9,
        is_public=is_public,
        entrypoint=entrypoint,
    )
    found = pullable("x/train:1", image)
    assert (found.name, found.state) == ("image", state)
    assert said in found.found
