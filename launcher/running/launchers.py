"""Launchers in the background: what they do for a climb or a portfolio, another may go on with."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from launcher import paths
from launcher.errors import on_disk, one_line

# One that could not see its climb through is followed by another, but not at every round of the
# guard. Assumption: a provider's bad quarter of an hour.
RETRY_SECONDS = 900.0
_UNASKED = "LORALIFT_UNASKED"  # in the environment of a launcher that no person has called


def start(run_id: str, *, agreed: bool, folder: Path | None = None) -> "subprocess.Popen[bytes]":
    """`launch --run-id RUN`, which says what it does in the climb's log. It outlives who starts it,
    and asks nobody; `agreed`: to what it costs. Raises OutsideFailed."""
    log = paths.climb_log(run_id)
    command = [sys.executable, "-P", "-m", "launcher", "--run-id", run_id]
    command += ["--yes"] if agreed else []
    environment = os.environ | {_UNASKED: "1"}
    place = folder if folder is not None and folder.is_dir() else log.parent
    with on_disk(f"no launcher of {run_id} can be started"):
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=place,
                env=environment, start_new_session=True,
            )  # fmt: skip


def is_unasked() -> bool:
    """Whether this process is such a launcher: then nobody wants what somebody has stopped."""
    return _UNASKED in os.environ


def each_told(tries: Iterable[tuple[str, Callable[[], str | None]]]) -> Iterator[str]:
    """What each of them says, by its name where it fails: one's trouble is not the others'."""
    for name, trying in tries:
        try:
            said = trying()
        except Exception as error:
            said = f"{name}: {one_line(error)}"
        if said is not None:
            yield said


def tried_lately(run_id: str) -> bool:
    log = paths.climb_log(run_id)
    # One of the future was written before the clock went back.
    return log.exists() and 0 <= time.time() - log.stat().st_mtime < RETRY_SECONDS
