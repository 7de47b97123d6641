#!/usr/bin/env bash
# The job in ~/loralift/run, from spec.json to result.json, and its exit code (jobs/exit_codes.py).
# With a store, results.sync first brings what an earlier attempt left there, then works beside the
# job. It ends by itself once the result is up.
set -uo pipefail
# As set-up does: SkyPilot leaves what it made of this task, its secrets in it.
grep -lsF "${SKYPILOT_TASK_ID:-no task}" "${TMPDIR:-/tmp}"/sky_app_* | xargs -r rm -f || true
cd ~/loralift/run || exit
python=~/loralift/venv/bin/python
store=${LORALIFT_STORE:-}
sync=
export PYTHONPATH=~/loralift/code:~/loralift/tracker PYTHONUNBUFFERED=1 PYTHONNOUSERSITE=1

printf '%s' "$LORALIFT_SPEC" >spec.json
if [ -n "$store" ]; then
  if ! "$python" -P -m results.sync --store "$store" --run . --restore 2>&1 |
    tee restore.log | tee -a job.log; then
    why=$(tail -n 3 restore.log | sed 's/^[^ ]* sync: //')
    "$python" -P -c 'import json, sys; from pathlib import Path
from jobs.last_answer import answer, result_mark
run_id, here = str(json.loads(sys.argv[1])["run_id"]), Path()
answer(here, run_id, "ERROR", sys.argv[2], stale=result_mark(here))' "$LORALIFT_SPEC" "$why"
    exit 1
  fi
  if [ "${SKYPILOT_NODE_RANK:-0}" = 0 ]; then
    "$python" -P -m results.sync --store "$store" --run . --linger 300 \
      --alive ../alive >>sync.log 2>&1 &
    sync=$!
  fi
fi

# Beside the job's own deadline and the watchdog: `timeout` holds it where both fail.
left=$("$python" -P -c 'import sys; from jobs.stop import seconds_until as left
print(max(1, int(left(sys.argv[1])) + 1))' "$LORALIFT_DEADLINE") || exit
timeout --preserve-status --signal=TERM --kill-after=150 "$left" \
  "$python" -P -m jobs.distributed spec.json 2>&1 | tee -a job.log
code=${PIPESTATUS[0]}

if [ -n "$sync" ]; then # the last upload; the watchdog bounds it
  [ -f result.json ] || kill -TERM "$sync" # killed, the job left none to wait for
  if ! wait "$sync"; then # once more, where it has an end to wait for
    [ -f result.json ] &&
      "$python" -P -m results.sync --store "$store" --run . --linger 60 \
        --alive ../alive >>sync.log 2>&1 ||
      tail -n 3 sync.log
  fi
fi
exit "$code"
