"""A notice that this machine will be taken: a file that appears. A bonus, never the plan.

LORALIFT_NOTICE_FILE names it. What learns of a preemption first (a cloud's agent, SkyPilot's
hooks, a person) touches it; the job then finishes its step and saves, as with SIGTERM. What bounds
the loss without a notice is how often checkpoints are made.
"""

import os
import signal
import threading
from pathlib import Path

from jobs.stop import Stop

NOTICE_VARIABLE = "LORALIFT_NOTICE_FILE"
# A cloud gives from 30 s (Google) to two minutes (AWS) of notice, by their documentation.
POLL_SECONDS = 2.0


def watch(stop: Stop, poll_seconds: float = POLL_SECONDS) -> None:
    """Look for the file from now on, from a thread; on its appearance stop the job: PREEMPTED.

    Nothing happens where no file is named. Main thread only: it is the one that is interrupted.
    """
    named = os.environ.get(NOTICE_VARIABLE)
    if not named:
        return
    file = Path(named).expanduser().resolve()
    stop.listen_for_notice(signal.SIGUSR1, f"notice of preemption: {file}")
    main = threading.main_thread().ident
    assert main is not None, "a running interpreter has one"

    def look() -> None:
        done = threading.Event()
        while not file.exists():
            done.wait(poll_seconds)
        signal.pthread_kill(main, signal.SIGUSR1)

    threading.Thread(target=look, daemon=True).start()
