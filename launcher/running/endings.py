"""How a run ended, read from what its job left."""

from launcher.events import StateChanged
from launcher.executors.base import Sight
from launcher.types import Reason, RunState

# For a job to begin on a machine that is up and has nothing else to do: on Slurm it takes up to
# 30 s (measured, November 2026), and for ever where the API server ended as it handed the job over.
IN_LINE_SECONDS = 300.0

_ENDINGS: dict[str, tuple[RunState, Reason]] = {
    "BAD_INPUT": ("FAILED", "BAD_INPUT"),
    "OUT_OF_MEMORY": ("FAILED", "OUT_OF_MEMORY"),
    "DEADLINE": ("FAILED", "BUDGET_EXCEEDED"),
    "CANCELLED": ("CANCELLED", "CANCELLED"),
    "PILOT_FAILED": ("FAILED", "PILOT_FAILED"),
    "PREEMPTED": ("FAILED", "PREEMPTED"),
    "STALLED": ("FAILED", "STALLED"),
    "ERROR": ("FAILED", "ERROR"),
}


def ending(sight: Sight, attempt: int) -> StateChanged:
    """What became of a job that is no longer alive, read from what it left."""
    result = sight.result
    if sight.setup_failed and result is None:
        message = "the machine's set-up failed before the job began; the end of the log says how"
        return StateChanged(attempt=attempt, state="FAILED", reason="SETUP_FAILED", message=message)
    if result is None and sight.in_line:
        message = (
            f"its job did not begin in {IN_LINE_SECONDS / 60:.0f} min on a machine that is up: the "
            "API server may have ended while it handed the job over"
        )
        return StateChanged(attempt=attempt, state="FAILED", reason="STALLED", message=message)
    if result is None and sight.gone_at is not None:
        message = (
            f"its machine went at {sight.gone_at[:19]} UTC, before anybody had fetched a result"
        )
        return StateChanged(attempt=attempt, state="FAILED", reason="LOST", message=message)
    if result is None:
        return StateChanged(
            attempt=attempt,
            state="FAILED",
            reason="LOST",
            message="the job ended without leaving a result: it was killed (by hand, or by the "
            "system for want of memory), or its machine was restarted or is gone",
        )
    if result.failure is not None:
        run_state, reason = _ENDINGS[result.failure.reason]
        message = result.failure.message
        return StateChanged(attempt=attempt, state=run_state, reason=reason, message=message)
    failed = [gate.metric for gate in result.gates if not gate.passed]
    if failed:
        message = f"gates failed: {', '.join(failed)}"
        return StateChanged(
            attempt=attempt, state="SUCCEEDED", reason="GATE_FAILED", message=message
        )
    return StateChanged(attempt=attempt, state="SUCCEEDED")
