"""What `launch` costs beside the job that it starts and follows: CPU seconds of each, in one run.

    .venv/bin/python -m benchmarks.overhead [RECIPE …flags]      (default: the sample job)

The launcher's own time is what is added to running `python -m jobs.train` by hand. Linux only: the
kernel counts the two apart, the job being the launcher's child, or ours when it is left behind.
Ends with 1 when the launcher adds 3 % or more.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BAR = 0.03
LAUNCH = str(Path(sys.executable).with_name("launch"))
# proc(5), /proc/pid/stat: utime, stime of the process, cutime, cstime of children waited for
FIRST = 13
PR_SET_CHILD_SUBREAPER = 36  # prctl(2): children that are left behind become ours


def cpu_seconds(pid: int) -> tuple[float, float]:
    """The process's own CPU seconds and its waited-for children's; it may be a zombie."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = [int(field) for field in stat[FIRST - 2 : FIRST + 2]]
    each = os.sysconf("SC_CLK_TCK")
    return sum(ticks[:2]) / each, sum(ticks[2:]) / each


def left_behind() -> float:
    """CPU seconds of the children that the launcher started and did not wait for."""
    seconds = 0.0
    try:
        while True:
            _, _, used = os.wait4(-1, 0)
            seconds += used.ru_utime + used.ru_stime
    except ChildProcessError:
        return seconds


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_STATE_HOME": f"{folder}/state"}
        command = [LAUNCH, *sys.argv[1:], "--store", f"{folder}/runs", "--yes"]
        with open(f"{folder}/out", "w") as out:
            launcher = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
            os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
            own, job = cpu_seconds(launcher.pid)
        if launcher.wait() not in (0, 5):
            sys.exit(Path(f"{folder}/out").read_text()[-2000:])
        job += left_behind()
    print(f"launcher {own:.2f} s of CPU, its job {job:.1f} s: {own / job:.2%} more")
    sys.exit(own / job >= BAR)


if __name__ == "__main__":
    main()
