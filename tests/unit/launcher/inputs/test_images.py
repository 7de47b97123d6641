import pytest

from launcher.inputs.images import is_pinned, mistake_in

DIGEST = "@sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "reference",
    [
        "ubuntu",
        "me/train:1",
        "Ghcr.IO/me/train:1",  # a host may have capitals
        "localhost:5000/a-b/c__d:V_1.2-x",
        f"registry.example/me/train{DIGEST}",
        f"registry.example.org:443/me/train:1.0{DIGEST}",
    ],
)
def test_a_reference_as_registries_take_it(reference: str) -> None:
    assert mistake_in(reference) is None
    assert is_pinned(reference) == (DIGEST in reference)


@pytest.mark.parametrize(
    "reference",
    [
        *("", "me/Train:1", "me/train:", "me train", "me//train", "me/train:1/2", "-a/b"),
        *("registry.example/me/train@sha256:12", "me/train:" + "x" * 129, "me/train:1\n"),
    ],
)
def test_what_is_none_is_told_what_one_looks_like(reference: str) -> None:
    assert (
        mistake_in(reference)
        == "expected NAME[:TAG][@sha256:...], as in registry.example/me/train:1"
    )
    assert not is_pinned(reference)


@pytest.mark.parametrize("prefix", ["docker:", "https://", "docker://"])
def test_a_prefix_of_others_is_named(prefix: str) -> None:
    assert f"without {prefix.rstrip('/')}" in (
        mistake_in(f"{prefix}registry.example/me/train:1") or ""
    )
