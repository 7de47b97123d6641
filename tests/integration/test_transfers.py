"""What is shown on a terminal while files move."""

import os
import subprocess
import sys

from tests.integration.command import ROOT

MOVING = """
from launcher.display.progress import LARGE_BYTES, Bar, Transfers
def no_line(line):
    raise AssertionError(line)
bar = Bar()
moving = Transfers(no_line)
moving.begin("fetching run-1 from s3://bucket/[runs]", 2 * LARGE_BYTES)
moving.moved(LARGE_BYTES)
moving.moved(LARGE_BYTES)
moving.end()
bar.close()
"""


def test_on_a_terminal_a_bar_within_that_of_the_run() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "140"}
    moving = subprocess.Popen([sys.executable, "-c", MOVING], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert moving.wait() == 0, shown.decode()
    assert b"fetching run-1 from s3://bucket/[runs]" in shown
    assert b"33.6/33.6 MB" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: nobody writes to it any more
        return b""
