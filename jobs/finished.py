"""A finished run, loaded for use exactly as it was trained: the same quantisation, the same casts.

What it answers is then what its run measured; loaded otherwise (in 16 bits, or merged) it differs a
little.
"""

from pathlib import Path
from typing import Any

import msgspec

from jobs import adapters, layout
from jobs.outcome import BadInput
from jobs.sources import base_of
from jobs.spec import WIRE_VERSION, DeviceKind, Dtype, ResolvedSpec, Task


def read_run(run: Path, task: Task) -> ResolvedSpec:
    """The spec of a finished run of that task. Raises `BadInput` where the folder is none."""
    try:
        job = msgspec.json.decode((run / layout.SPEC).read_bytes(), type=ResolvedSpec)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{run}: no {layout.SPEC}; give the folder of a finished run") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"{run / layout.SPEC}: {error}") from None
    if job.wire_version != WIRE_VERSION:
        raise BadInput(f"{run}: wire_version {job.wire_version}, this reads {WIRE_VERSION}")
    if job.task != task:
        does = "scores texts" if job.task == "regression" else "writes answers"
        raise BadInput(f"{run}: a {job.task} run, which {does}; expected one of task {task}")
    if not weights_of(job, run).is_dir():
        raise BadInput(f"{run}: no {weights_of(job, run).name}/: the run did not end with one")
    return job


def weights_of(job: ResolvedSpec, run: Path) -> Path:
    """What training saved: the adapter, or with strategy full the whole model."""
    return run / (layout.MODEL if job.strategy == "full" else layout.ADAPTER)


def placed(job: ResolvedSpec, device: DeviceKind | None, dtype: Dtype | None) -> ResolvedSpec:
    """The spec on a device of this machine: the one asked for, the run's own, or the CPU.

    Elsewhere than on CUDA it computes in fp32 unless told otherwise: 16-bit arithmetic is many
    times slower on a CPU, and unproved on Metal.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there: DeviceKind = device or (job.device if here.get(job.device) else "cpu")
    moved: Dtype = job.dtype if there == job.device else "bf16" if there == "cuda" else "fp32"
    return msgspec.structs.replace(job, device=there, dtype=dtype or moved)


def load(job: ResolvedSpec, run: Path) -> tuple[Any, Any]:
    """The tuned model on the spec's device, ready to be asked, and its tokenizer."""
    from jobs import strategies

    weights = weights_of(job, run)
    full = job.strategy == "full"
    source, revision = (str(weights.resolve()), None) if full else base_of(job, run)
    tokenizer = strategies.load_tokenizer(str(weights.resolve()), None)
    model = strategies.load_model(job, source, revision, tokenizer)
    strategies.limit_threads(job, strategies.count_parameters(model))
    if not full:
        model = adapters.load(model, adapters.open_adapter(weights))
        strategies.cast_adapter(job, model)
    return model.eval(), tokenizer
