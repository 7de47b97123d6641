"""When a job no longer gets on, by a clock of the test's own."""

import json

import pytest

from jobs.processes import Process, Spent
from jobs.stalls import SILENT_BYTES, Limits, Metrics, Stalls

LIMITS = Limits(step_floor=900.0, silence=600.0)
JOB = Process(7, 1)


class Job:
    """What a job leaves to be seen, as it goes on."""

    def __init__(self, path) -> None:
        self.metrics = Metrics(path)
        self._path = path
        self.stalls = Stalls(LIMITS, now=0.0)
        self.used = Spent(0.0, 0)

    def write(self, *records) -> None:
        with self._path.open("a") as out:
            out.writelines(json.dumps(record) + "\n" for record in records)

    def train(self, steps, seconds_each) -> None:
        self.write({"event": "phase", "phase": "train"})
        self.write(*(step(n + 1, (n + 1) * seconds_each) for n in range(steps)))

    def use(self, cpu_seconds=0.0, size=0) -> None:
        self.used = Spent(self.used.cpu_seconds + cpu_seconds, self.used.bytes + size)

    def look(self, now, sign=None):
        self.metrics.read()
        return self.stalls.look(now, self.metrics, {JOB: self.used}, sign)


def step(number, seconds):
    return {"event": "step", "step": number, "steps_total": 100, "seconds": seconds}


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(("seconds_each", "limit"), [(1.0, 900.0), (300.0, 3000.0)])
def test_a_step_is_overdue_after_ten_medians_but_not_before_the_floor(job, seconds_each, limit):
    job.train(4, seconds_each)
    assert job.look(50.0) is None
    assert job.look(50.0 + limit) is None
    stall = job.look(51.0 + limit)
    assert stall == (
        f"no step in {limit + 1:.0f} s after step 4 of 100; the median is {seconds_each:.3g} s, "
        f"the limit {limit:.0f} s"
    )


def test_any_record_and_any_touch_is_a_sign_of_life(job, tmp_path):
    job.train(4, 1.0)
    job.look(0.0)
    job.write({"event": "eval", "step": 4, "loss": 1.0})
    assert job.look(899.0) is None
    (tmp_path / "metrics.jsonl").touch()
    assert job.look(1700.0) is None
    assert job.look(2601.0) is not None


def test_before_enough_steps_are_known_work_is_what_counts(job):
    job.train(2, 1.0)
    for now in range(0, 6000, 500):
        job.use(cpu_seconds=6.0)
        assert job.look(float(now)) is None
    assert job.look(6101.0) is not None


def test_loading_is_silent_when_neither_bytes_nor_work_is_seen(job):
    job.write({"event": "phase", "phase": "load"})
    job.look(0.0)
    job.use(size=SILENT_BYTES)
    assert job.look(500.0) is None
    assert job.look(1100.0) is None
    stall = job.look(1101.0)
    assert stall == "in 601 s less than 1 MiB moved and less than 1% of a processor used"


def test_what_asks_again_and_again_is_silent(job):
    for now in range(0, 601, 10):
        job.use(cpu_seconds=0.05, size=1000)
        assert job.look(float(now)) is None
    assert job.look(611.0) is not None


def test_who_waits_with_good_reason_says_so(job):
    assert job.look(0.0, sign=1) is None
    assert job.look(599.0, sign=2) is None
    assert job.look(1198.0, sign=2) is None
    assert job.look(1200.0, sign=2) is not None


def test_an_earlier_attempt_s_steps_are_not_this_one_s(job):
    """Set-up may take long; the file it finds has not changed since."""
    job.train(10, 1.0)
    job.metrics.read()
    for now in range(0, 2000, 100):
        job.use(size=SILENT_BYTES)
        assert job.stalls.look(float(now), None, {JOB: job.used}, None) is None
    assert job.look(2000.0) is None


def test_a_file_written_anew_is_read_from_its_beginning(job, tmp_path):
    job.train(10, 1.0)
    job.metrics.read()
    aside = tmp_path / "aside"
    aside.write_text('{"event": "phase", "phase": "load"}\n{"event": "step", "st')
    aside.replace(tmp_path / "metrics.jsonl")
    job.metrics.read()
    assert (job.metrics.phase, job.metrics.median_seconds) == ("load", None)


def test_a_process_that_ends_takes_nothing_back(job):
    other = Process(8, 2)
    job.stalls.look(0.0, None, {JOB: Spent(1.0, 0), other: Spent(50.0, 10**9)}, None)
    assert job.stalls.look(601.0, None, {JOB: Spent(1.0, 0)}, None) is not None


def test_limits_are_set_by_the_environment():
    assert Limits.of({}) == LIMITS
    assert Limits.of({"LORALIFT_STALL_STEP_SECONDS": "60"}).step_floor == 60.0
    assert Limits.of({"LORALIFT_STALL_SILENCE_SECONDS": "30"}).silence == 30.0
