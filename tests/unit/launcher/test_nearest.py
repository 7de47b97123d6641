"""What is near to a name, and what is not."""

import pytest

from launcher.nearest import nearest

CARDS = ("A100-80GB", "A100-40GB", "H200", "H100-SXM", "H100-PCIe", "L4")
WORDS = ("logs", "runs", "gpu", "status", "launch", "sample")


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("H1000", CARDS, ["H100-SXM", "H100-PCIe", "H200"]),
        ("a100", CARDS, ["A100-80GB", "A100-40GB"]),
        ("sttus", WORDS, ["status"]),
        ("bogus", WORDS, []),
        ("xyz", CARDS, []),
    ],
)
def test_what_begins_alike_is_nearer_and_what_is_far_is_not_named(name, known, near) -> None:
    assert nearest(name, known, 3) == near
