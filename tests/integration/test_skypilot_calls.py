"""Calls of SkyPilot through a real child with a small `sky` in it."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from launcher.catalog.refresh import VARIABLE
from launcher.executors.skypilot_calls import NO_ANSWER, CallFailed, Calls

# What of SkyPilot the child imports, and three calls: one answers, one raises, one never ends.
SKY = """
import os, time
from sky import exceptions

class Task: ...

def api_cancel(requests):
    return requests[0]

def get(request):
    print("SkyPilot talks on stdout")
    if request == "refused":
        raise exceptions.ResourcesUnavailableError("no node\\n  is free")
    if request == "hang":
        time.sleep(3600)
    if request == "die":
        os._exit(3)
    return request
"""


EXCEPTIONS = """
class ResourcesUnavailableError(Exception): ...
class ClusterDoesNotExist(ValueError): ...
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Calls whose child finds the small `sky`: an interpreter that puts it on its path."""
    package = tmp_path / "sky"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text(SKY)
    (package / "exceptions.py").write_text(EXCEPTIONS)
    for name in ("jobs", "server"):
        (package / name).mkdir()
        (package / name / "__init__.py").write_text("")
    for name in ("skypilot_config", "server/common", "utils/controller_utils"):
        (package / f"{name}.py").write_text("")
    names = "def generate_managed_job_cluster_name(name, job): ..."
    (package / "jobs" / "utils.py").write_text(names)
    (package / "utils" / "__init__.py").write_text("")
    (package / "utils" / "common.py").write_text("")
    (tmp_path / "yaml.py").write_text("")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = Calls()
    yield found
    found._end()


def test_an_answer_and_an_error_come_as_they_are(calls):
    assert calls("outcome", request="fine") is None
    with pytest.raises(CallFailed, match="no node is free") as raised:
        calls("outcome", request="refused")
    assert raised.value.kinds[0] == "ResourcesUnavailableError"
    assert calls("outcome", request="fine") is None  # the same child goes on


def test_one_that_does_not_answer_is_ended_and_the_next_call_has_another(calls):
    with pytest.raises(CallFailed, match="no answer to `outcome`") as raised:
        calls("outcome", request="hang", seconds=0.5)
    assert raised.value.kinds == NO_ANSWER
    assert calls("outcome", request="fine") is None


def test_one_that_dies_is_told_from_one_that_answers(calls):
    with pytest.raises(CallFailed, match="its process ended"):
        calls("outcome", request="die")
    assert calls("outcome", request="fine") is None


def test_an_interrupted_call_leaves_no_answer_to_the_next(calls):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            calls("outcome", request="hang")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls("outcome", request="fine") is None


# the thread that would close the child's output has never run
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_start_leaves_no_child_to_the_next(calls, monkeypatch):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as while_it_starts:
        while_it_starts.setattr("threading.Thread.start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            calls("outcome", request="fine")
    assert calls("outcome", request="fine", seconds=60.0) is None


def test_an_interpreter_without_skypilot_says_so(calls, tmp_path):
    (tmp_path / "sky" / "__init__.py").write_text("raise ImportError('no module named sky')")
    with pytest.raises(CallFailed, match="no module named sky"):
        calls("outcome", request="fine")


def test_nothing_of_the_child_stays(calls, tmp_path):
    calls("outcome", request="fine")
    child, folder = calls._child, Path(calls._folder.name)
    calls._end()
    assert not folder.exists()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, 0)
        pytest.fail(f"{child.pid} lives")


def test_skypilot_runs_in_a_folder_that_stays(calls):
    """What it starts there goes on: its API server."""
    calls("outcome", request="fine")
    folder = Path(f"/proc/{calls._child.pid}/cwd").resolve()
    calls._end()
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
