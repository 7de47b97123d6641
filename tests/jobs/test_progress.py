import contextlib

from jobs.progress import Progress, read_records
from jobs.spec import EvalRecord, PhaseRecord, StepRecord


def step(number):
    return StepRecord(
        at="2026-11-21T00:00:00Z",
        step=number,
        steps_total=9,
        epoch=0.1,
        loss=1.0 / number,
        learning_rate=1e-3,
        grad_norm=None,
        tokens_per_second=1.0,
        memory_bytes=1,
        seconds=10.0 * number,
        eta_seconds=1.0,
    )


def test_each_record_is_on_disk_when_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with contextlib.closing(Progress(path, keep_to_step=0)) as progress:
        progress.enter("load")
        progress.write(step(1))
        kinds = [type(r) for r in read_records(path)]
    assert kinds == [PhaseRecord, StepRecord]


def test_a_restart_drops_lost_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with contextlib.closing(Progress(path, keep_to_step=0)) as first:
        first.enter("train")
        first.write(EvalRecord(at="2026-11-21T00:00:00Z", step=0, loss=7.0))
        for number in (1, 2, 3):
            first.write(step(number))
    with path.open("ab") as file:
        file.write(b'{"event":"step","st')
    with contextlib.closing(Progress(path, keep_to_step=2)) as second:
        second.write(step(3))
    steps = [r.step for r in read_records(path) if isinstance(r, StepRecord)]
    assert steps == [1, 2, 3]
    assert second.training_seconds() == 20.0
    assert second.base_loss() == 7.0


def test_seconds_are_kept_by_phase(tmp_path):
    with contextlib.closing(Progress(tmp_path / "metrics.jsonl", keep_to_step=0)) as progress:
        for phase in ("load", "data", "done"):
            progress.enter(phase)
    assert list(progress.seconds()) == ["load", "data", "done"]
