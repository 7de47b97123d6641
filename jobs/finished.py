"""A finished run, loaded for use exactly as it was trained: the same quantisation, the same casts.

What it answers is then what its run measured; loaded otherwise (in 16 bits, or merged) it differs a
little.
"""

from pathlib import Path
from typing import Any

import msgspec

from jobs import adapters, layout
from jobs.data import Line, read_data
from jobs.encode import answers_of
from jobs.golden import GoldenRow, read_golden
from jobs.outcome import BadInput
from jobs.sources import base_of, data_file, read_wire
from jobs.spec import DeviceKind, Dtype, ResolvedSpec, Task


def read_run(run: Path, task: Task) -> ResolvedSpec:
    """The spec of a finished run of that task. Raises `BadInput` where the folder is none."""
    if not (run / layout.SPEC).is_file():
        raise BadInput(f"{run}: no {layout.SPEC}; give the folder of a finished run")
    job = read_wire(run / layout.SPEC, ResolvedSpec)
    if job.task != task:
        does = "scores texts" if job.task == "regression" else "writes answers"
        raise BadInput(
            f"{run}: a run of task {job.task}, which {does}; expected one of task {task}"
        )
    weights = layout.weights_folder(run, job.strategy)
    if not weights.is_dir():
        raise BadInput(f"{run}: no {weights.name}/: the run did not end with one")
    return job


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
    from jobs.tokenizer import load_tokenizer

    weights = layout.weights_folder(run, job.strategy)
    full = job.strategy == "full"
    source, revision = (str(weights.resolve()), None) if full else base_of(job, run)
    tokenizer = load_tokenizer(str(weights.resolve()), None)
    model = strategies.load_model(job, source, revision, tokenizer)
    strategies.limit_threads(job, strategies.count_parameters(model))
    if not full:
        model = adapters.load(model, adapters.open_adapter(weights))
        strategies.cast_adapter(job, model)
    return model.eval(), tokenizer


def what_to_ask(
    job: ResolvedSpec, folder: Path, named: Path | None, flag: str
) -> tuple[Path, list[GoldenRow], list[str], list[str]]:
    """The rows that a finished run is judged on: of the file that `flag` named, its golden set, or
    held out. With their file, the answers that training showed, and warnings.
    """
    try:
        data = read_data(job, folder)
    except BadInput as error:
        if named is None and job.eval.golden is None:
            raise
        warnings = [f"ids that only training rows cite are not known: {error}"]
        training: list[str] = []
        held_out: list[Line] = []
    else:
        warnings, training, held_out = [], answers_of(data.train), data.judged
    if named is None and job.eval.golden is None:
        rows = [GoldenRow(line, None) for line in held_out]
        return rows[0].line.path, rows, training, warnings
    if named is None:
        path = data_file(job.eval.golden or "", "eval.golden", folder, job.golden_sha256)
    else:
        path = data_file(str(named.absolute()), flag, folder, None)
    return path, read_golden(path), training, warnings
