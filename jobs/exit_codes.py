"""How a training job's process ends, for whoever sees no more than its exit code.

SkyPilot's `job_recovery.recover_on_exit_codes` names PREEMPTED's: such a job goes on elsewhere.
After a DEADLINE none may: its money is spent. Standard library only, for jobs/watchdog.py. What
the shell, `timeout` and signals use (124 to 165) is left to them.
"""

EXIT_CODES = {  # jobs.spec.FailureReason → exit code; 0 is success
    "ERROR": 1,
    "BAD_INPUT": 2,
    "OUT_OF_MEMORY": 30,
    "DEADLINE": 31,
    "CANCELLED": 32,
    "PREEMPTED": 33,
    "STALLED": 34,
    "PILOT_FAILED": 35,
}
