"""How much of a run's training need not be done again."""

from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import StepRecord
from launcher.errors import OutsideFailed
from launcher.running.saved import remaining, share_saved
from launcher.types import CALIBRATION, Run, TimeTerm
from results.stores import open_store
from tests.unit.launcher.plans import an_estimate

AT = "2026-11-21T00:00:00.000+00:00"


def a_run(bucket: str = "") -> Run:
    return Run(
        run_id="a", created_at=AT, store="runs", state="FAILED", reason="LOST", message=None,
        ended_at=AT, folder=None, bucket=bucket, attempts=(),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that was at step 75 of 100 when it was last seen."""
    record = StepRecord(
        at=AT, step=75, steps_total=100, epoch=0.7, loss=1.0, learning_rate=1e-4, grad_norm=None,
        tokens_per_second=1.0, memory_bytes=1, seconds=1.0, eta_seconds=1.0,
    )  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    (work / layout.METRICS).write_bytes(msgspec.json.encode(record) + b"\n")
    return work


def name(step: int) -> str:
    return f"{layout.CHECKPOINTS}/{layout.CHECKPOINT_PREFIX}{step}"


def test_it_is_what_the_last_whole_checkpoint_has(folder: Path) -> None:
    assert share_saved(a_run(), folder) == 0.0
    for step, file in ((25, layout.COMPLETE), (50, layout.COMPLETE), (75, "weights")):
        (folder / name(step)).mkdir(parents=True)
        (folder / name(step) / file).write_text("{}")
    assert share_saved(a_run(), folder) == 0.5


def test_of_a_run_in_a_bucket_it_is_what_that_has(folder: Path, tmp_path: Path) -> None:
    (folder / name(75)).mkdir(parents=True)
    (folder / name(75) / layout.COMPLETE).write_text("{}")
    run = a_run(str(tmp_path / "bucket"))
    open_store(run.bucket).put(f"a/{name(25)}/{layout.COMPLETE}", b"{}", None)
    open_store(run.bucket).put(f"a/{name(50)}/weights", b"", None)
    assert share_saved(run, folder) == 0.25


def test_a_bucket_that_cannot_be_read_is_said(folder: Path) -> None:
    with pytest.raises(OutsideFailed, match="what run a has saved cannot be seen"):
        share_saved(a_run("gs://elsewhere"), folder)


def test_a_run_that_never_made_a_step_has_nothing(tmp_path: Path) -> None:
    assert share_saved(a_run(), tmp_path) == 0.0


def test_only_the_steps_are_not_done_again() -> None:
    terms = tuple(
        TimeTerm(name=n, low_hours=1.0, expected_hours=2.0, high_hours=4.0, why="")
        for n in ("provision", "load", "evaluation", "training", CALIBRATION)
    )
    estimate = msgspec.structs.replace(an_estimate(9.0, (1, 1, 1)), time=terms)
    left = remaining(estimate, 0.75)
    assert [t.high_hours for t in left.time] == [4.0, 4.0, 4.0, 1.0, 1.0]
    assert left.hours_expected == 7.0
    assert remaining(estimate, 0.0) == estimate
