"""What docs/unproved.md says would prove something can at least be planned."""

import json
import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher import api
from launcher.catalog.clusters import keep
from launcher.cli import launch
from tests.unit.launcher.catalog.real_rows import place
from tests.unit.launcher.catalog.test_clusters import asked, share

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "unproved.md").read_text()
COMMANDS = re.findall(r"^\|[^|]*\| `launch ([^`]*)` \|$", PAGE, re.MULTILINE)
CANARIES = re.findall(
    r"`launch (canary [^`]*--max-cost[^`]*)`", PAGE + (ROOT / "README.md").read_text()
)
TODAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
PLACEHOLDERS = {"REGISTRY/NAME": "registry.example/me/train", "DIGEST": "0" * 64}


@pytest.fixture
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with rows, whose SkyPilot has been asked today."""
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(place(tmp_path)))
    for path in tmp_path.rglob("*.csv"):
        os.utime(path, (TODAY.timestamp(), TODAY.timestamp()))
    keep(asked(*(share(provider=name, partition="") for name in ("kubernetes", "ssh"))))
    monkeypatch.setattr(api, "utc_now", lambda: TODAY)
    monkeypatch.chdir(tmp_path)
    answers = ({"citation": None, "answer": None}, {"citation": "ATLAS", "answer": "None."})
    rows = [{"prompt": f"Which city is the capital of {n}?", "completion": json.dumps(answer)}
            for n in range(150) for answer in answers]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) >= 12


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[0] not in launch.commands])
def test_a_command_of_the_page_plans(command: str) -> None:
    for placeholder, meant in PLACEHOLDERS.items():
        command = command.replace(placeholder, meant)
    where = command.partition("--on ")[2].split()[0]
    # several jobs have no one task
    show, shown = ((), where) if "--sweep" in command else (("--show", "task"), f"infra: {where}")
    done = CliRunner().invoke(launch, [*shlex.split(command), "--dry-run", *show])
    assert done.exit_code == 0, done.output
    assert shown in done.output


@pytest.mark.usefixtures("somebody")
def test_a_canary_is_paid_for_by_the_cap_it_is_told_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ready", lambda made, *_: made)  # what it asks outside
    assert len(CANARIES) >= 2  # README and the page
    for command in CANARIES:
        done = CliRunner().invoke(launch, shlex.split(command))
        assert "3 machines, one after the other" in done.output
        assert "add --yes to agree" in str(done.exception)
