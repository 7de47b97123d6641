"""The device that was planned is here, or it is said at once: before anything is downloaded.

A test cluster's GPUs may be pretended: null devices that its scheduler hands out. Such a cluster
sets LORALIFT_PRETEND_GPU=1, and a job that was planned for CUDA is trained on the processor.
"""

import contextlib
import subprocess
from collections.abc import Mapping

import msgspec

from jobs.outcome import BadInput
from jobs.spec import ResolvedSpec

PRETEND_VARIABLE = "LORALIFT_PRETEND_GPU"
PRETENDED = f"{PRETEND_VARIABLE}=1: planned for a GPU, trained on the processor"


def pretended(job: ResolvedSpec, environment: Mapping[str, str]) -> ResolvedSpec:
    """The job as it is; for the processor where its GPUs are pretended.

    fp32 as launcher/planning/resolve.py plans on a processor; torch's optimizer in place of the
    fused one, which that module chooses on CUDA alone.
    """
    if job.device != "cuda" or environment.get(PRETEND_VARIABLE) != "1":
        return job
    fused = job.train.optimizer == "adamw_torch_fused"
    optimizer = "adamw_torch" if fused else job.train.optimizer
    return msgspec.structs.replace(
        job,
        device="cpu",
        dtype="fp32",
        processes=1,
        nodes=1,
        sharding="none",
        train=msgspec.structs.replace(job.train, optimizer=optimizer, tf32=False),
    )


def require_device(job: ResolvedSpec) -> None:
    """Raises `BadInput` for a job that was planned for a GPU where torch finds none."""
    if job.device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise BadInput(
            f"device: a GPU was planned, torch {torch.__version__} finds none here; nvidia-smi "
            f"says: {_nvidia_smi()}"
        )


def _nvidia_smi() -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
        return (done.stdout + done.stderr).strip().partition("\n")[0] or "nothing"
    return "nothing, it is not here"
