"""A rented machine's own side of the cap made harmless, through SkyPilot's runner.

The watchdog is killed; the job, `timeout` and the scripts around them are halted (SIGSTOP): to
SkyPilot they are a job at work, for which autodown waits. The watchdog is killed rather than halted
because it is in no process tree that a cluster clears away with its node.
"""

import json
import time
from datetime import datetime, timedelta

from launcher.executors.skypilot_calls import CallFailed, Calls
from launcher.running.clock import utc_now

# So long before the deadline set-up is halted, where no job has begun. Assumption: three tries of
# a command on the machine, some seconds each.
SET_UP_BEFORE = timedelta(seconds=90)
TRY_SECONDS = 5.0

# Every process of the run has its spec in its environment, SkyPilot's own have not. AT_WORK names
# what has to be among them: it starts after the watchdog.
SCRIPT = r"""
watchdog= others= at_work= moving=
for place in /proc/[0-9]*; do
  pid=${place#/proc/}
  grep -qsF '"run_id":"RUN_ID"' "$place/environ" || continue
  line=$(tr '\0' ' ' 2>/dev/null <"$place/cmdline")
  case $line in *jobs.watchdog*) watchdog="$watchdog $pid" ;; *) others="$others $pid" ;; esac
  case $line in *AT_WORK*) at_work=$pid ;; esac
done
[ -n "$watchdog" ] && [ -n "$at_work" ] || exit 0
kill -KILL $watchdog
kill -STOP $others
sleep 1
for pid in $others; do
  state=$(grep -s '^State:' /proc/$pid/status)
  case $state in ''|*stopped*|*zombie*) ;; *) moving="$moving $pid" ;; esac
done
echo "{\"killed\": \"$watchdog\", \"halted\": \"$others\", \"moving\": \"$moving\"}"
"""
JOB, SET_UP = "jobs.distributed", "setup.sh"  # what `timeout` runs


class Unproved(Exception):
    """What was seen is not what should have been."""


def script(run_id: str, at_work: str) -> str:
    return SCRIPT.replace("RUN_ID", run_id).replace("AT_WORK", at_work)


def halt(calls: Calls, cluster: str, run_id: str, deadline: datetime) -> str:
    """Halt the run's machine as soon as its job works, or what sets it up; what was done, in words.

    Raises Unproved where there is nothing to halt before the deadline.
    """
    said = "the machine did not answer"
    while utc_now() < deadline - timedelta(seconds=TRY_SECONDS):
        at_work = JOB if utc_now() < deadline - SET_UP_BEFORE else SET_UP
        try:
            code, said = calls("run", cluster=cluster, command=script(run_id, at_work))
        except CallFailed as error:
            code, said = 1, str(error)
        done = said.strip().splitlines()
        if code == 0 and done and done[-1].startswith("{"):
            return _halted(json.loads(done[-1]), at_work)
        time.sleep(TRY_SECONDS)
    raise Unproved(
        f"neither job nor set-up was found on its machine before the deadline: {said[-200:]}"
    )


def _halted(found: dict[str, str], at_work: str) -> str:
    if found["moving"].split():
        raise Unproved(f"some of its job could not be halted: {found['moving']}")
    what = "job" if at_work == JOB else "set-up"
    count = len(found["halted"].split())
    return f"the watchdog was killed, the {count} processes of its {what} were halted"
