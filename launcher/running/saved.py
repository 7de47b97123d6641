"""What a run that ended early need not do again: the training that its checkpoints keep."""

from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import StepRecord
from launcher.errors import OutsideFailed
from launcher.types import CALIBRATION, Estimate, Run, TimeTerm
from results.records import records

_OF_THE_STEPS = ("training", CALIBRATION)  # the time terms that grow with them


def share_saved(run: Run, folder: Path) -> float:
    """The share of its steps that the last whole checkpoint has, of its bucket or of `folder`; 0
    where nothing is kept. Raises OutsideFailed where the bucket cannot be read."""
    steps = [r for r in records(folder / layout.METRICS) if isinstance(r, StepRecord)]
    if not steps:
        return 0.0
    names = _in_bucket(run) if run.bucket else _in_folder(folder / layout.CHECKPOINTS)
    last = max((layout.step_of(name) or 0 for name in names), default=0)
    return min(1.0, last / max(1, steps[-1].steps_total))


def _in_folder(folder: Path) -> list[str]:
    return [complete.parent.name for complete in folder.glob(f"*/{layout.COMPLETE}")]


def _in_bucket(run: Run) -> list[str]:
    from results.stored_run import StoredRun, checkpoints
    from results.stores import StoreError, open_store

    try:
        return list(checkpoints(StoredRun(open_store(run.bucket), run.run_id)))
    except StoreError as error:
        raise OutsideFailed(f"what run {run.run_id} has saved cannot be seen: {error}") from None


def remaining(estimate: Estimate, done: float) -> Estimate:
    """The estimate of a run that goes on when that share of its steps is done. All else is done
    again: the machine, loading, what is measured. Pure."""
    time = tuple(_less(t, done) if t.name in _OF_THE_STEPS else t for t in estimate.time)
    return msgspec.structs.replace(estimate, time=time)


def _less(term: TimeTerm, done: float) -> TimeTerm:
    left = 1.0 - done
    return msgspec.structs.replace(
        term,
        low_hours=term.low_hours * left,
        expected_hours=term.expected_hours * left,
        high_hours=term.high_hours * left,
    )
