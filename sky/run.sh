#!/usr/bin/env bash
# The job in ~/loralift/run, from spec.json to result.json, and its exit code (jobs/exit_codes.py).
# With a store, results.sync brings home what an earlier attempt left there, and works beside the
# job; SIGTERM tells it to upload what is left and end.
set -uo pipefail
cd ~/loralift/run || exit
python=~/loralift/venv/bin/python
store=${LORALIFT_STORE:-}
sync=
export PYTHONPATH=~/loralift/code PYTHONUNBUFFERED=1 PYTHONNOUSERSITE=1

printf '%s' "$LORALIFT_SPEC" >spec.json
if [ -n "$store" ]; then
  "$python" -P -m results.sync --store "$store" --run . --restore 2>&1 | tee -a job.log || exit
  if [ "${SKYPILOT_NODE_RANK:-0}" = 0 ]; then
    "$python" -P -m results.sync --store "$store" --run . >>sync.log 2>&1 &
    sync=$!
  fi
fi

# Beside the job's own deadline and the watchdog: `timeout` holds it where both fail.
left=$("$python" -P -c 'import sys; from jobs.stop import seconds_until as left
print(max(1, int(left(sys.argv[1])) + 1))' "$LORALIFT_DEADLINE") || exit
timeout --preserve-status --signal=TERM --kill-after=150 "$left" \
  "$python" -P -m jobs.distributed spec.json 2>&1 | tee -a job.log
code=${PIPESTATUS[0]}

if [ -n "$sync" ]; then # the last upload, bounded; the watchdog waits 120 s for it
  kill -TERM "$sync" 2>/dev/null
  for _ in $(seq 100); do
    kill -0 "$sync" 2>/dev/null || break
    sleep 1
  done
  kill -KILL "$sync" 2>/dev/null && echo "the last upload did not end in 100 s" | tee -a job.log
fi
exit "$code"
