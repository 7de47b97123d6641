"""The longest rows first: what will not fit fails in the first minute, not hours into the training.

Two optimizer steps by a trainer of its own, on the longest batch that the training will meet: the
second runs beside the optimizer's state, which the first has made; then the weights are put back.
Where the base model is not asked, the longest questions are answered once as well.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from jobs.attempt import Attempt
from jobs.memory import free_memory, peak_memory
from jobs.outcome import reason_of
from jobs.pilot import Trial, job_of
from jobs.sharding import sharded
from jobs.weights_aside import weights_aside


def run(a: Attempt, trial: Trial, answer: Callable[[], object] | None) -> None:
    """Phase longest_batch. `answer` generates for the longest questions; None: that comes anyway.

    Raises MemoryError with the rows and the peak where they do not fit. A sharded model is not
    tried: its weights are gathered differently outside of training.
    """
    if sharded(a.job):
        return
    a.progress.enter("longest_batch")
    micro = a.job.train.rows_at_once * a.ranks.count
    rows, tokens = longest(trial.tuner.train_dataset, micro)
    what = f"{micro // a.ranks.count} rows of up to {tokens:,} tokens"
    try:
        step(a, trial, rows, micro)
        if answer is not None and a.ranks.first:
            answer()
    except Exception as error:
        if reason_of(error) != "OUT_OF_MEMORY":
            raise
        peak, meaning = peak_memory()
        raise MemoryError(
            f"the longest batch does not fit: {what}; {meaning} {peak / 2**30:.2f} GiB before it "
            f"failed; lower train.micro_batch or train.seq_len: {error}"
        ) from error
    free_memory()
    a.ranks.wait()
    peak, meaning = peak_memory()
    print(f"longest batch: {what}: {meaning} {peak / 2**30:.2f} GiB", flush=True)


def longest(rows: Any, count: int) -> tuple[Any, int]:
    """The `count` longest of a dataset's rows, longest first, and how many tokens the first has."""
    import pyarrow.compute

    ids = rows.with_format("arrow")["input_ids"]
    lengths = pyarrow.compute.list_value_length(ids[:]).to_numpy()
    order = lengths.argsort(kind="stable")[::-1][:count]
    return rows.select(order), int(lengths[order[0]])


def step(a: Attempt, trial: Trial, rows: Any, batch: int) -> None:
    """Two optimizer steps on `rows`, all of them at once, and the weights put back.

    Where the job accumulates gradients they are passed twice a step: the second time beside those
    of the first.
    """
    from jobs import strategies

    job = job_of(a.job)
    accumulates = job.train.effective_batch > batch and len(trial.tuner.train_dataset) > batch
    passes = 2 if accumulates else 1
    train = msgspec.structs.replace(job.train, effective_batch=batch * passes)
    job = msgspec.structs.replace(job, train=train)
    with weights_aside(a, trial.tuner.model) as folder:
        tuner = trial.make(job, folder, trial.train.select(range(1)))
        strategies.widen_adapter(job, tuner.model)
        tuner.train_dataset = rows.select([*range(len(rows))] * passes)
        tuner.args.train_sampling_strategy = "sequential"  # shuffled, a row could meet itself
        tuner.args.max_steps = 2
        tuner.args.set_save(strategy="no")
        tuner.args.set_logging(strategy="no")
        tuner.train()
