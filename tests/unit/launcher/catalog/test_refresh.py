from math import inf

import msgspec
import pytest

from launcher.catalog import refresh as module
from launcher.catalog.enabled import Check
from launcher.catalog.refresh import VARIABLE, Known, compared, skypilot_python
from launcher.errors import OutsideFailed

CHECK = Check(checked_at="2026-11-20T10:00:00+00:00", skypilot="0.14.1", enabled=(), disabled={})


def known(usd: float, instance: str = "g5.xlarge", as_of: str = "2026-11-01") -> Known:
    return Known("aws", instance, "us-east-1", False, "A10G", 1, round(usd * 1e6), as_of)


def test_what_moved_stands_by_its_size():
    found = compared(
        [known(1.0, "a"), known(1.0, "b"), known(1.0, "c"), known(1.0, "gone")],
        [known(1.1, "a"), known(0.5, "b"), known(1.0, "c", "2026-11-20"), known(3, "new")],
        CHECK,
        {},
        "the last refresh",
    )
    assert [(m.new.instance, round(m.percent, 1)) for m in found.moved] == [("b", -50), ("a", 10)]
    assert (found.appeared, found.gone) == (1, 1)


def test_a_first_price_of_an_owner_is_a_move_and_counts_are_apart():
    two = msgspec.structs.replace(known(2.0), count=2)
    found = compared([known(0), two], [known(1.0), two], CHECK, {}, "the last refresh")
    assert [(m.new.count, m.percent) for m in found.moved] == [(1, inf)]
    assert (found.appeared, found.gone) == (0, 0)


def test_without_skypilot_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OutsideFailed, match=r"pip install 'loralift\[cloud\]'"):
        skypilot_python()


def test_the_python_beside_sky_on_the_path(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    for name in ("sky", "python"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert skypilot_python() == str(tmp_path / "python")
