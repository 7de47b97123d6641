"""Where the machine is a Slurm job: Slurm itself ends it, whatever becomes of SkyPilot's autodown.

Set-up lowers the job's time limit, which every user may (raising it is the administrator's): no
process has to live until then, and none can, where Slurm ends what a step leaves behind.

Standard library only and Python 3.8 on, see jobs/watchdog.py. Source: scontrol(1).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone

SECONDS = 30.0  # for Slurm to answer


def end_by(moment: datetime, environment: Mapping[str, str]) -> str | None:
    """Have Slurm end this machine then, one or two minutes late at most; what came of it, in a
    line. None where the machine is no Slurm job."""
    job, program = environment.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if not job or program is None:
        return None
    at = moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")  # noqa: UP017
    try:
        done = subprocess.run(
            [program, "update", f"JobId={job}", f"EndTime={at}"],
            env={**environment, "TZ": "UTC"},  # scontrol reads times in its own zone
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Slurm will not end job {job} by itself: {error}"
    if done.returncode != 0:
        said = " ".join(done.stdout.decode(errors="replace").split())
        return f"Slurm will not end job {job} by itself: {said}"
    return f"Slurm ends job {job} at {at} UTC"
