"""What each of several processes holds, one a GPU. Bytes; no card has measured any of it.

DistributedDataParallel (sharding none): the whole model, and torch's flat copies of all gradients
(counted on the CPU: tests/jobs/test_gradient_buckets.py).
FullyShardedDataParallel 1 (sharding full, jobs/sharding.py): a share of everything that is
wrapped, and what is gathered to work with. NCCL's own buffers are not known, and not counted.
"""

from math import ceil

import msgspec

from jobs.spec import ResolvedSpec
from launcher.estimate.tensors import ModelShape
from launcher.estimate.weights import base_width, gradient_bytes, term, widths_of
from launcher.types import MemoryTerm

# backward_prefetch backward_pre gathers the next layer while one works (torch distributed/fsdp/
# api.py BackwardPrefetch); limit_all_gathers keeps it at two.
GATHERED_LAYERS = 2


def of_one(
    shape: ModelShape, spec: ResolvedSpec, weights: list[MemoryTerm], trained: list[MemoryTerm]
) -> list[MemoryTerm]:
    """What stands in one process, of what would stand in the only one."""
    if spec.processes == 1:
        return [*weights, *trained]
    if spec.sharding == "none":
        size = gradient_bytes(shape, spec, widths_of(spec))
        why = f"DDP's, beside the gradients, in each of {spec.processes} processes"
        return [*weights, *trained, term("gradient buckets", size, why)]
    return [*(_share(t, spec.processes) for t in weights), *_gathered(shape, spec, weights),
            *(_share(t, spec.processes) for t in trained)]  # fmt: skip


def _share(t: MemoryTerm, processes: int) -> MemoryTerm:
    """A process's part; bitsandbytes' quantisation state is no parameter, and stays whole."""
    if t.name == "quantisation state":
        return t
    why = f"{t.why}; a share of {processes}"
    return msgspec.structs.replace(t, bytes=ceil(t.bytes / processes), why=why)


def _gathered(shape: ModelShape, spec: ResolvedSpec, weights: list[MemoryTerm]) -> list[MemoryTerm]:
    """Beside the shares: the root unit all through a step, and the layers at work.

    What no wrapped module holds is the root's, which is not freed after the forward pass (torch
    distributed/fsdp/_runtime_utils.py _reshard after forward, "Do not free the root's parameters").
    """
    root = base_width(spec) * shape.parameters_of("embedding", "head")
    whole = sum(t.bytes for t in weights if t.name != "quantisation state")
    layers = ceil(GATHERED_LAYERS * (whole - root) / shape.layers)
    return [
        term("gathered root", root, "FSDP: embedding and head, whole in every process"),
        term("gathered layers", layers, f"FSDP: {GATHERED_LAYERS} layers' weights, whole"),
    ]
