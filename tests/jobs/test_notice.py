"""A file that says this machine will be taken."""

import signal
import time

import pytest

from jobs import layout, notice
from jobs.checkpoint import last_complete, step_of
from jobs.exit_codes import EXIT_CODES
from jobs.outcome import Stopped
from jobs.stop import Stop
from tests.jobs.short_job import Forked, holding, result, wait_for_step, write_job


@pytest.fixture
def stop():
    before = {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGALRM)}
    stop = Stop(lambda _: None)
    yield stop
    stop.end()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_file_s_appearance_stops_the_job(stop, tmp_path, monkeypatch):
    file = tmp_path / "notice"
    monkeypatch.setenv(notice.NOTICE_VARIABLE, str(file))
    notice.watch(stop, poll_seconds=0.01)
    assert stop.stopped is None

    def be_told():
        file.touch()  # it may be seen before this has returned
        time.sleep(60)

    with pytest.raises(Stopped, match="notice of preemption: ") as caught:
        be_told()
    assert caught.value.reason == "PREEMPTED"


def test_without_a_named_file_nothing_is_watched(stop, monkeypatch):
    monkeypatch.delenv(notice.NOTICE_VARIABLE, raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    notice.watch(stop)
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.filterwarnings("default")
def test_a_job_finishes_its_step_and_saves(tmp_path):
    folder = write_job(tmp_path / "taken", eval={"generate": False, "compare_base": False})
    file = tmp_path / "notice"
    process = Forked(folder, holding(2), **{notice.NOTICE_VARIABLE: str(file)})
    wait_for_step(folder, 2, process)
    file.touch()
    assert process.wait(timeout=600) == EXIT_CODES["PREEMPTED"]
    found = result(folder)
    assert found.failure.reason == "PREEMPTED"
    assert step_of(last_complete(folder / layout.CHECKPOINTS)) == found.steps > 0
