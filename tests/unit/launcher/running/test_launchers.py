"""Launchers in the background."""

import os
import time
from pathlib import Path

import pytest

from launcher import paths
from launcher.errors import OutsideFailed
from launcher.running import launchers


def test_one_that_has_no_place_for_its_log_is_trouble_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutsideFailed, match=r"no launcher of climb can be started: .*directory"):
        launchers.start("climb", agreed=True)


@pytest.mark.parametrize(
    ("minutes_ago", "lately"), [(1, True), (14, True), (16, False), (-1, False), (-600, False)]
)
def test_a_clock_that_went_back_keeps_nobody_from_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes_ago: int, lately: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = paths.climb_log("climb")
    log.parent.mkdir(parents=True)
    log.touch()
    then = time.time() - 60 * minutes_ago
    os.utime(log, (then, then))
    assert launchers.tried_lately("climb") == lately
