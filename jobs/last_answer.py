"""The answer of a job that could not give one itself: result.json, made without msgspec.

Standard library only and Python 3.8 on, see jobs/watchdog.py.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from jobs import layout
from jobs.aside import write_aside
from jobs.stalls import Metrics

WIRE_VERSION = 2  # jobs.spec.WIRE_VERSION, which cannot be imported here; a test holds it
LOG_TAIL_BYTES = 4000


def result_mark(run: Path) -> int | None:
    """What changes when a result.json is written anew; None where there is none."""
    try:
        return (run / layout.RESULT).stat().st_mtime_ns
    except OSError:
        return None


def answer(run: Path, run_id: str, reason: str, message: str, stale: int | None) -> bool:
    """Leave a result.json, where this attempt left none and no earlier one succeeded.

    `stale` marks the result that was there before the attempt. Returns whether it was written;
    raises OSError.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        succeeded = json.loads((run / layout.RESULT).read_bytes()).get("failure") is None
        if succeeded or result_mark(run) != stale:
            return False
    metrics = Metrics(run / layout.METRICS)
    metrics.read()
    result = {
        "wire_version": WIRE_VERSION,
        "run_id": run_id,
        "status": "error",
        "failure": {
            "reason": reason,
            "message": message,
            "traceback": f"the end of {layout.LOG}:\n{_tail(run / layout.LOG)}",
        },
        "steps": metrics.step,
    }
    write_aside(run / layout.RESULT, json.dumps(result, indent=2).encode() + b"\n")
    return True


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return "(none)"
