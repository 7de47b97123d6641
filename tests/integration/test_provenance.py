"""Where an attempt says that it comes from."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from launcher import __version__
from launcher.provenance import git_revision, provenance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("1\n")
    who = ("-c", "user.name=me", "-c", "user.email=me@example")
    for words in (("init", "-q"), ("add", "a.py"), (*who, "commit", "-qm", "one")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_a_checkout_is_named_by_its_commit_and_whether_it_was_changed(checkout: Path) -> None:
    command = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    assert git_revision(checkout) == head.stdout.strip()
    git_revision.cache_clear()
    (checkout / "a.py").write_text("2\n")
    assert git_revision(checkout) == f"{head.stdout.strip()}-dirty"


def test_an_installation_inside_of_a_checkout_is_none_of_it(checkout: Path) -> None:
    (checkout / "venv").mkdir()
    assert git_revision(checkout / "venv") is None


def test_an_image_has_a_digest_where_it_names_one() -> None:
    digest = f"sha256:{'a' * 64}"
    found = provenance(b"{}\n", f"registry.example/me/train:1@{digest}")
    assert found.plan_sha256 == hashlib.sha256(b"{}\n").hexdigest()
    assert (found.version, found.image_digest) == (__version__, digest)
    assert provenance(b"", "me/train:1").image_digest is None
    assert provenance(b"", "").image is None
