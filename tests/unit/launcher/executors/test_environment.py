"""Where the environments of local jobs are kept."""

from pathlib import Path

import pytest

from launcher.errors import OutsideFailed
from launcher.executors.environment import training_python


def test_a_place_that_cannot_be_written_is_trouble_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutsideFailed, match=r"cannot be made: .*Not a directory"):
        training_python(None, lambda _: None)
