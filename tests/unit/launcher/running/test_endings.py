"""How a run ended, read from what its job left."""

import msgspec
import pytest

from jobs.spec import Failure, GateResult, Result
from launcher.executors.base import Sight
from launcher.running.endings import ending

DONE = Result(run_id="run-1", status="success")
SEEN = Sight(alive=False, started=True, result=DONE, billed=True)


def failed(reason: str) -> Sight:
    failure = Failure(reason=reason, message="so it said")
    result = msgspec.structs.replace(DONE, status="error", failure=failure)
    return msgspec.structs.replace(SEEN, result=result)


def test_a_result_without_failure_is_a_success():
    change = ending(SEEN, 2)
    assert (change.attempt, change.state, change.reason) == (2, "SUCCEEDED", None)


@pytest.mark.parametrize(
    ("failure", "state", "reason"),
    [
        ("DEADLINE", "FAILED", "BUDGET_EXCEEDED"),
        ("CANCELLED", "CANCELLED", "CANCELLED"),
        ("PREEMPTED", "FAILED", "PREEMPTED"),
        ("STALLED", "FAILED", "STALLED"),
        ("OUT_OF_MEMORY", "FAILED", "OUT_OF_MEMORY"),
        ("BAD_INPUT", "FAILED", "BAD_INPUT"),
        ("ERROR", "FAILED", "ERROR"),
    ],
)
def test_the_jobs_own_word_is_taken(failure, state, reason):
    change = ending(failed(failure), 1)
    assert (change.state, change.reason, change.message) == (state, reason, "so it said")


def test_a_failed_gate_is_a_success_with_a_reason():
    gate = GateResult(metric="perplexity", min=None, max=8.0, value=9.0, passed=False)
    result = msgspec.structs.replace(DONE, gates=(gate,))
    change = ending(msgspec.structs.replace(SEEN, result=result), 1)
    assert (change.state, change.reason) == ("SUCCEEDED", "GATE_FAILED")
    assert change.message == "gates failed: perplexity"


def test_nothing_left_is_lost_unless_the_job_never_began():
    nothing = msgspec.structs.replace(SEEN, result=None)
    assert (ending(nothing, 1).state, ending(nothing, 1).reason) == ("FAILED", "LOST")
    gone = msgspec.structs.replace(nothing, billed=False, gone_at="2026-11-21T20:11:36.000+00:00")
    assert ending(gone, 1).reason == "LOST"
    assert ending(gone, 1).message == (
        "its machine went at 2026-11-21T20:11:36 UTC, before anybody had fetched a result"
    )
    in_setup = msgspec.structs.replace(nothing, started=False, setup_failed=True)
    assert ending(in_setup, 1).reason == "SETUP_FAILED"
    # the watchdog ended set-up, and said why
    told = msgspec.structs.replace(failed("DEADLINE"), setup_failed=True)
    assert ending(told, 1).reason == "BUDGET_EXCEEDED"
