"""The one place that knows the file names of a run. Standard library only.

The job writes these names into its working folder; `collect` brings the same names home to
`<store>/<run_id>/`. Nothing else in the project spells them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SPEC = "spec.json"  # ResolvedSpec: all the job needs
METRICS = "metrics.jsonl"  # one jobs.spec.Record a line, appended as the job goes
RESULT = "result.json"  # jobs.spec.Result, always left behind
LOST_RESULT = "result.lost.json"  # that names an adapter which came from nowhere
LOG = "job.log"  # what the job printed
LINEAGE = "lineage.json"  # jobs.spec.Lineage: what the adapter comes from; also inside its folder
SAMPLES = "samples.jsonl"  # question, reference, base's and tuned answer, one row each
GATES = "gates.json"  # every gate with value, interval, n and whether it passed
EVALUATION = "evaluation.json"  # of `python -m jobs.evaluate`, after the run
REVIEW = "review.csv"  # rows drawn for people to judge
OWN_METRICS = "own_metrics"  # the user's metric files, as they travelled with the run
ADAPTER = "adapter"  # PEFT adapter, safetensors only (strategies qlora and lora)
MODEL = "model"  # the whole tuned model (strategy full)
TRACKING = "tracking"  # what a tracker keeps here: event files, a local store
BASE = "base"  # a generated base model (model.init: random), kept so that the adapter loads
CHECKPOINTS = "checkpoints"  # checkpoint-<step>/ each with a COMPLETE file when whole
CHECKPOINT_PREFIX = "checkpoint-"
TRAINER_STATE = "trainer_state.json"  # in a checkpoint; transformers' own
COMPLETE = "COMPLETE"  # marks a checkpoint whose files are all written
PILOT = "pilot.json"  # PilotResult of a pilot that passed, reused after a restart
WEIGHTS_ASIDE = "weights_aside"  # .<rank>: trained weights while pilot or trial borrow the model
BASE_LOSSES = "base_losses.json"  # the untouched model's loss by row, reused after a restart
BASE_ANSWERS = "base_answers.jsonl"  # the untouched model's answers, reused after a restart
RESTART = (PILOT, BASE_LOSSES, BASE_ANSWERS)

GROWING = (METRICS, LOG)  # appended to; all other files are moved into place whole

PID = "job.pid"  # the job's process id, written as soon as it may be told to stop
LOCK = "job.lock"  # held with flock for as long as the job lives
STOP = "stop.json"  # jobs.spec.Failure: why the watchdog ends the job, written before SIGTERM
WATCHDOG_LOG = "watchdog.log"  # what jobs/watchdog.py saw and did
ALIVE = "alive"  # beside a rented machine's run: touched by who waits or sends with good reason
LOCK_VARIABLE = "LORALIFT_LOCK_FD"  # names the open lock file that a launcher hands to its job

RANKS_VARIABLE = "LORALIFT_RANKS"  # set for the processes that jobs/distributed.py starts

PLAN = "plan.json"  # launcher's Plan
TASK = "task.yaml"  # the SkyPilot task as it was submitted
MANAGED_JOB = "managed_job.json"  # what SkyPilot last said of a managed job
RECEIPT = "receipt.json"  # estimate against actual
REPORT = "report.md"
REPORT_PAGE = "report.html"  # the same, self-contained
LOSS_PICTURE = "loss_curves.png"  # with the learning rate
OVERALL_PICTURE = "overall_metrics.png"
DIMENSIONS_PICTURE = "per_dimension_mae.png"  # of students that score
METADATA = "training_metadata.json"  # what was trained from what, how, and what it is worth
HISTORY = "training_history.json"  # metrics.jsonl by epoch, step and validation
PICTURES = (LOSS_PICTURE, OVERALL_PICTURE, DIMENSIONS_PICTURE)
EVENTS = "events.jsonl"  # the ledger's of the run, for one elsewhere: `launch adopt`
DOCUMENTS = (PLAN, RECEIPT, EVENTS, REPORT, REPORT_PAGE, *PICTURES, METADATA, HISTORY)  # of collect
SUMS = "SHA256SUMS"  # written last: a run without it is not whole
WRITER = "writer.json"  # in a store: whose the run is while it is written; and its holder's copy

# of a labelling task, in its output folder
ORACLE_ANSWERS = "answers.jsonl"  # journal of all that was sent and answered, only appended to
LABELLED = "labelled.jsonl"  # id, text and scores, one row each
LABEL_SUMMARY = "label_summary.json"  # jobs.spec.LabelSummary
EXPORT_SPEC = "export.json"  # ExportSpec, in the export's own folder beside the run's
EXPORT_RESULT = "export_result.json"  # ExportResult, always left behind
QUANTISATION = "quantisation.json"  # each GGUF file: size, perplexity, metrics, speed, gates
EXPORT_LOCK = "export.lock"
EXPORT_WORK = "work"  # what an export made on the way; reused by the next, safe to remove
MERGED = "merged"  # the merged model, as Transformers loads it
MODELFILE = "Modelfile"
EXPORT_SUFFIX = ".export"  # <store>/<run_id>.export/; no run id holds a dot
REJECTED_SUFFIX = ".rejected"  # a file that failed a gate
MADE_SUFFIX = ".made"  # beside what a step made: from what, and its hash

TEMPORARY_SUFFIX = ".part"  # written aside, then moved into place
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")  # can run code when loaded: never brought home


def weights_folder(run: Path, strategy: str) -> Path:
    """What training saved: the adapter, or with strategy full the whole model."""
    return run / (MODEL if strategy == "full" else ADAPTER)


def step_of(checkpoint: str) -> int | None:
    """The step of `checkpoint-<step>`; None for another name."""
    digits = checkpoint[len(CHECKPOINT_PREFIX) :]
    is_one = checkpoint.startswith(CHECKPOINT_PREFIX) and digits.isdigit()
    return int(digits) if is_one else None


def newest_first(checkpoints: Iterable[str]) -> list[str]:
    """Those that are names of checkpoints, the highest step first."""
    steps = {name: step_of(name) for name in checkpoints}
    found = {name: step for name, step in steps.items() if step is not None}
    return sorted(found, key=lambda name: -found[name])
