"""The watchdog's parts that start no process; tests/jobs/test_watchdog.py starts real ones."""

import ast
import os
import typing
from pathlib import Path

import msgspec
import pytest

import jobs
from jobs import last_answer, layout, processes, watchdog
from jobs.exit_codes import EXIT_CODES
from jobs.last_answer import answer, result_mark
from jobs.processes import Process, Spent
from jobs.spec import WIRE_VERSION, Failure, FailureReason, Result

BEFORE_ANY_ENVIRONMENT = (
    "__init__", "daemon", "exit_codes", "last_answer", "layout", "processes", "stalls", "watchdog",
)  # fmt: skip


def test_every_reason_has_an_exit_code_of_its_own():
    assert set(EXIT_CODES) == set(typing.get_args(FailureReason))
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert all(0 < code < 124 for code in EXIT_CODES.values())


@pytest.mark.parametrize("name", BEFORE_ANY_ENVIRONMENT)
def test_a_machine_s_own_python_can_read_it(name):
    source = (Path(jobs.__file__).parent / f"{name}.py").read_text()
    ast.parse(source, feature_version=(3, 8))
    if "def " in source and " | None" in source:  # annotations that 3.8 must not evaluate
        assert "from __future__ import annotations\n" in source


def test_the_answer_is_a_result_of_the_wire_format(tmp_path):
    (tmp_path / layout.LOG).write_bytes(b"x" * 9000 + b"\nthe last line \xff\n")
    (tmp_path / layout.METRICS).write_text(
        '{"event": "step", "step": 7, "steps_total": 9, "seconds": 1.5}\n'
    )
    assert answer(tmp_path, "r-1", "STALLED", "no step", stale=None)
    found = msgspec.json.decode((tmp_path / layout.RESULT).read_bytes(), type=Result)
    assert last_answer.WIRE_VERSION == WIRE_VERSION
    said = found.failure.traceback
    assert said.endswith("\nthe last line \ufffd\n")
    assert len(said) < 5000
    failure = Failure(reason="STALLED", message="no step", traceback=said)
    assert found == Result(run_id="r-1", status="error", failure=failure, steps=7)


@pytest.mark.parametrize("left", ["", '{"failure": ', "[]"])
def test_what_is_no_result_is_no_answer(tmp_path, left):
    (tmp_path / layout.RESULT).write_text(left)
    assert answer(tmp_path, "r-1", "DEADLINE", "late", stale=None)


def test_an_earlier_success_stays_the_answer(tmp_path):
    (tmp_path / layout.RESULT).write_text('{"run_id": "r-1", "status": "success"}')
    assert not answer(tmp_path, "r-1", "DEADLINE", "late", stale=result_mark(tmp_path))


def test_this_process_is_known_by_its_start():
    me = processes.identify(os.getpid())
    assert processes.alive(me)
    other = Process(me.pid, me.started + 1)
    assert not processes.alive(other)
    assert not processes.send(other, 0)
    assert processes.spent(other) == Spent(0.0, 0)
    assert processes.spent(me).cpu_seconds > 0
    assert me not in processes.tree([me]), "it never ends itself"


def test_deadlines_are_absolute(tmp_path):
    def left(deadline: str) -> float:
        return watchdog.Watch(tmp_path, deadline, "r-1").seconds_left

    assert left("2026-01-01T01:00:00.500+01:00") == pytest.approx(
        left("2026-01-01T00:00:00.500Z"), abs=5
    )
    with pytest.raises(ValueError, match="no UTC offset"):
        left("2099-01-01T00:00:00")
