"""Launchers in the background."""

from pathlib import Path

import pytest

from launcher.errors import OutsideFailed
from launcher.running import launchers


def test_one_that_has_no_place_for_its_log_is_trouble_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutsideFailed, match=r"no launcher of climb can be started: .*directory"):
        launchers.start("climb", agreed=True)
