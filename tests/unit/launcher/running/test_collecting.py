"""A run comes home: its folder and the ledger are real, but for the plan."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from launcher import paths
from launcher.errors import OutsideFailed
from launcher.events import AttemptStarted, MachineChanged, RunCreated, StateChanged
from launcher.ledger import Ledger
from launcher.running import collecting
from launcher.running.collecting import collect
from launcher.times import stamp
from launcher.types import Plan
from results.collect import verify
from tests.fixtures.working_folder import begin, finish

RUN = "run-1"


@pytest.fixture
def work(small_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a run that has succeeded, whose store is `runs`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    then = datetime.now(UTC) - timedelta(minutes=5)
    made = msgspec.structs.replace(small_plan, run_id=RUN, created_at=stamp(then))
    work = paths.work_folder(RUN)
    begin(work)
    finish(work)
    (work / layout.METRICS).write_bytes(b"")
    Ledger(paths.ledger_file()).append(
        RUN,
        stamp(then),
        RunCreated(plan=made, store=str(tmp_path / "runs")),
        AttemptStarted(
            attempt=1, executor="process", handle=f"process:{work}", provider="local",
            instance="cpu", microusd_per_hour=0,
        ),
        StateChanged(attempt=1, state="PROVISIONING"),
        StateChanged(attempt=1, state="RUNNING"),
        MachineChanged(attempt=1, state="GONE"),
        StateChanged(attempt=1, state="SUCCEEDED"),
    )  # fmt: skip
    return work


def test_a_working_folder_that_cannot_be_removed_is_trouble_outside(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(work: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(collecting, "_remove", full)
    with pytest.raises(OutsideFailed, match=r"the run is whole in .*Permission denied"):
        collect(RUN)
    assert verify(tmp_path / "runs" / RUN) == []


def test_a_report_that_cannot_be_made_keeps_no_run_away(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> dict[str, bytes]:
        raise ValueError("Expected end of text\n^")

    monkeypatch.setattr("results.report.documents.documents", broken)
    home = collect(RUN)
    assert (home / layout.REPORT).read_text() == (
        "This report could not be made: Expected end of text ^\n"
        f"`launch report {RUN}` tries again.\n"
    )
    assert verify(home) == []
    assert not work.exists()


def test_a_run_that_is_home_elsewhere_is_copied_to_its_own_store(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere" / RUN
    assert collect(RUN, Path("elsewhere")) == elsewhere
    assert collect(RUN) == elsewhere
    assert collect(RUN, tmp_path / "runs" / ".." / "elsewhere") == elsewhere
    assert not (tmp_path / "runs").exists()
    assert collect(RUN, Path("runs")) == tmp_path / "runs" / RUN
    assert verify(tmp_path / "runs" / RUN) == []
    assert verify(elsewhere) == []
