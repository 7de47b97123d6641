"""A rented machine's own side of the cap made harmless, through SkyPilot's runner.

The watchdog is killed; the job and the `timeout` around it are halted (SIGSTOP): to SkyPilot they
are a job at work, for which autodown waits. The watchdog is killed rather than halted because it is
in no process tree that a cluster clears away with its node. The scripts above the job are left to
wait: SkyPilot 0.14.1 runs them with job control, where a halted child is one that has returned.
"""

import json
import time
from datetime import datetime, timedelta

from launcher.executors.skypilot_calls import CallFailed, Calls
from launcher.running.clock import utc_now

TRY_SECONDS = 5.0

# Every process of the run has its spec in its environment, SkyPilot's own have not. With the job's
# first process the watchdog is there: it starts before. A process stops when it next has its turn,
# which a busy machine lets it wait for.
SCRIPT = r"""
watchdog= job= moving=
for place in /proc/[0-9]*; do
  pid=${place#/proc/}
  grep -qsF '"run_id":"RUN_ID"' "$place/environ" || continue
  case $(tr '\0' ' ' 2>/dev/null <"$place/cmdline") in
    *jobs.watchdog*) watchdog="$watchdog $pid" ;;
    *jobs.distributed*|*jobs.train*) job="$job $pid" ;;
  esac
done
[ -n "$watchdog" ] && [ -n "$job" ] || exit 0
kill -KILL $watchdog
kill -STOP $job
for try in 1 2 3 4 5 6 7 8 9 10; do
  sleep 1
  moving=
  for pid in $job; do
    state=$(grep -s '^State:' /proc/$pid/status)
    case $state in *stopped*) ;; *) moving="$moving $pid" ;; esac
  done
  [ -n "$moving" ] || break
done
echo "{\"killed\": \"$watchdog\", \"halted\": \"$job\", \"moving\": \"$moving\"}"
"""


class Unproved(Exception):
    """What was seen is not what should have been."""


def script(run_id: str) -> str:
    return SCRIPT.replace("RUN_ID", run_id)


def halt(calls: Calls, cluster: str, run_id: str, deadline: datetime) -> str:
    """Halt the run's job as soon as it has begun; what was done, in words.

    Raises Unproved where there is none before the deadline.
    """
    said = "the machine did not answer"
    while utc_now() < deadline - timedelta(seconds=TRY_SECONDS):
        try:
            code, said = calls("run", cluster=cluster, command=script(run_id))
        except CallFailed as error:
            code, said = 1, str(error)
        done = said.strip().splitlines()
        if code == 0 and done and done[-1].startswith("{"):
            return _halted(json.loads(done[-1]))
        time.sleep(TRY_SECONDS)
    raise Unproved(
        f"its job had not begun at its deadline: {said.strip()[-200:] or 'set-up goes on'}"
    )


def _halted(found: dict[str, str]) -> str:
    if found["moving"].split():
        raise Unproved(f"its job could not be halted: {found['moving']}")
    count = len(found["halted"].split())
    return f"the watchdog was killed, the {count} processes of its job were halted"
