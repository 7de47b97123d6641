"""What a registry said of an image is kept for plans."""

from pathlib import Path

import pytest

from launcher import paths
from launcher.inputs import registered
from launcher.inputs.registered import Registered


def test_what_was_said_last_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert registered.known("me/train:1") is None
    for size in (7, 9):
        said = Registered(digest="sha256:0", architecture="amd64", compressed_bytes=size)
        registered.keep("me/train:1", said)
    found = registered.known("me/train:1")
    assert found is not None
    assert (found.compressed_bytes, len(found.as_of)) == (9, len("2026-11-22"))
    assert registered.known("me/train:2") is None
    for file in paths.images_folder().iterdir():
        file.write_text("{")
    assert registered.known("me/train:1") is None
