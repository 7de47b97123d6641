"""Pure: settings beyond what the model has, which a job can run with and gains nothing by."""

from jobs.spec import JobSpec
from launcher.estimate.tensors import ModelShape


def warnings_of(job: JobSpec, shape: ModelShape) -> tuple[str, ...]:
    """Rows longer than the model's positions, and a rank above what a matrix can have."""
    return (*_of_length(job, shape), *_of_rank(job, shape))


def _of_length(job: JobSpec, shape: ModelShape) -> tuple[str, ...]:
    asked, most = job.train.seq_len, shape.positions
    if most is None or asked <= most:
        return ()
    return (
        f"train.seq_len is {asked:,} tokens, and {job.model.id} was made for {most:,} "
        "(max_position_embeddings): what stands beyond is at positions that it never learnt; "
        f"lower it (--set train.seq_len={most})",
    )


def _of_rank(job: JobSpec, shape: ModelShape) -> tuple[str, ...]:
    if job.strategy == "full":
        return ()
    adapted = [t for t in shape.tensors(job.lora.targets) if t.target]
    smallest = min(adapted, key=lambda t: min(t.shape[-2:]), default=None)
    if smallest is None or job.lora.r <= min(smallest.shape[-2:]):
        return ()
    side = min(smallest.shape[-2:])
    return (
        f"lora.r is {job.lora.r:,}, and the smallest side of {smallest.module} is {side:,}: a rank "
        f"above that adds memory and time there, and nothing else; lower it (--set lora.r={side})",
    )
