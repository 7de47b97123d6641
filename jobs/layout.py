"""The one place that knows the file names of a run. Standard library only.

The job writes these names into its working folder; `collect` brings the same names home to
`<store>/<run_id>/`. Nothing else in the project spells them out.
"""

SPEC = "spec.json"  # ResolvedSpec: all the job needs
METRICS = "metrics.jsonl"  # one jobs.spec.Record a line, appended as the job goes
RESULT = "result.json"  # jobs.spec.Result, always left behind
LOG = "job.log"  # what the job printed
LINEAGE = "lineage.json"  # jobs.spec.Lineage: what the adapter comes from; also inside its folder
SAMPLES = "samples.jsonl"  # question, reference, base's and tuned answer, one row each
ADAPTER = "adapter"  # PEFT adapter, safetensors only (strategies qlora and lora)
MODEL = "model"  # the whole tuned model (strategy full)
BASE = "base"  # a generated base model (model.init: random), kept so that the adapter loads
CHECKPOINTS = "checkpoints"  # checkpoint-<step>/ each with a COMPLETE file when whole
COMPLETE = "COMPLETE"  # marks a checkpoint whose files are all written
BASE_ANSWERS = "base_answers.jsonl"  # the untouched model's answers, reused after a restart

PID = "job.pid"  # the job's process id, written first
LOCK = "job.lock"  # held with flock for as long as the job lives
LOCK_VARIABLE = "LORALIFT_LOCK_FD"  # names the open lock file that a launcher hands to its job

RANKS_VARIABLE = "LORALIFT_RANKS"  # set for the processes that jobs/distributed.py starts

PLAN = "plan.json"  # launcher's Plan
RECEIPT = "receipt.json"  # estimate against actual
REPORT = "report.md"
SUMS = "SHA256SUMS"  # written last: a run without it is not whole

TEMPORARY_SUFFIX = ".part"  # written aside, then moved into place
