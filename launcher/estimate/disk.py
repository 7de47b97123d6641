"""What stands on disk, and what an export needs in RAM. Bytes.

A job: at its end, when adapter and checkpoints stand together. The trained weights that wait aside
while a pilot borrows the model (jobs/weights_aside.py) are gone before the first checkpoint.
An export: all it makes stays, so that a second start goes on (jobs/shipping/steps.py once); files
under their final names are links to it.
"""

from functools import lru_cache
from math import ceil

from jobs.spec import GgufType, ResolvedSpec
from launcher.estimate import weights
from launcher.estimate.tensors import ModelShape, Tensor
from launcher.types import MIB, DiskTerm

# Assumption: packages and caches beside the weights, as the training environment takes 1.6 GB
# (measured, November 2026) and an image as much again.
ENVIRONMENT_BYTES = 8_000_000_000
# Log, metrics, samples. Assumption.
RUN_FILES_BYTES = 20_000_000

# Bits a weight of what llama.cpp makes of the layers, and of rows that are no multiple of 256
# values, which K-quants cannot take (llama-quant.cpp: the next larger of the older types).
# https://github.com/ggml-org/llama.cpp tools/quantize/README.md at 311c2c9 lists Llama-3.1-8B as a
# whole: Q8_0 8.5008, Q5_K_M 5.7036, Q4_K_M 4.8944; here less its head in Q6_K and its embedding in
# plain K-quant. Q3_K_M in the same way from examples/quantize/README.md's 3.91 for Llama 2 7B.
_LAYERS: dict[GgufType, tuple[float, float]] = {
    "f16": (16.0, 16.0),
    "q8_0": (8.5, 8.5),
    "q5_k_m": (5.65, 6.0),
    "q4_k_m": (4.80, 5.5),
    "q3_k_m": (3.87, 4.5),
}
_EMBEDDING: dict[GgufType, float] = {"q5_k_m": 5.5, "q4_k_m": 4.5, "q3_k_m": 3.4375}
_HEAD, _HEAD_OTHERWISE = 6.5625, 8.5  # Q6_K, Q8_0
K_QUANT_ROW = 256
# Tokens, merges and scores in the file's head: 1.86 MB for SmolLM2's 49,152 tokens, norms in fp32
# among them (a file made here, 2026-11-21).
METADATA_BYTES_PER_TOKEN = 38

# jobs/shipping/merge.py in bf16, peak resident set: 1,029 MiB for 430 MiB of weights and 2,102 for
# 942 (Qwen2 of 6 and 24 layers, 896 wide, r 16, 2026-11-21): the mapped base, of which the system
# can take half the total back, and the sums beside it. Met within 7 %.
MERGE_TIMES_THE_WEIGHTS = 2.1
MERGE_PROCESS_BYTES = 200 * MIB


def job(shape: ModelShape, spec: ResolvedSpec, base_parameters: int) -> tuple[DiskTerm, ...]:
    """A job's terms; `base_parameters` are the published model's, head included."""
    sizes = weights.trained_sizes(shape, spec)
    trained = sum(n * times for n, times in sizes)
    one = weights.checkpoint_bytes(sizes, spec)
    kept = spec.train.checkpoints_kept + 1 + (spec.train.select_by is not None)
    best = "the best, " if spec.train.select_by is not None else ""
    what = "model" if spec.strategy == "full" else "adapter"
    return (
        DiskTerm("environment", ENVIRONMENT_BYTES, "packages and image; assumption"),
        base(shape, spec, base_parameters),
        DiskTerm(what, 4 * trained, f"{trained:,} × fp32 at most"),
        DiskTerm(
            "checkpoints",
            kept * one,
            f"{best}{spec.train.checkpoints_kept} kept and one being written: weights, optimizer",
        ),
        DiskTerm("run files", RUN_FILES_BYTES, "log, metrics, samples; assumption"),
    )


def base(shape: ModelShape, spec: ResolvedSpec, parameters: int) -> DiskTerm:
    """The base model's files."""
    width = weights.file_width(shape, spec)
    why = f"{parameters:,} × {'fp32' if width == 4 else '16 bits'}"
    if spec.model.init == "pretrained" and shape.file_width is None:
        why += "; its dtype is not known here: assumption"
    return DiskTerm("base model", width * parameters, why)


def export(shape: ModelShape, spec: ResolvedSpec) -> tuple[DiskTerm, ...]:
    """What `launch export --to ollama` adds beside the base model and the run.

    The merged model has the base's dtype; a fully trained one needs no merge. A student's merged
    model is all there is.
    """
    merged = weights_merged(shape, spec)
    terms = []
    if spec.strategy != "full":
        terms.append(DiskTerm("merged model", merged, "adapter and base, in the base's dtype"))
    if shape.outputs:
        return tuple(terms)
    wanted: tuple[GgufType, ...] = tuple(dict.fromkeys(("f16", spec.serve.quantization)))
    return (*terms, *(gguf(shape, name) for name in wanted))


def weights_merged(shape: ModelShape, spec: ResolvedSpec) -> int:
    """The whole tuned model: in the base's own dtype, or in fp32 where every weight is trained."""
    width = 4 if spec.strategy == "full" else weights.file_width(shape, spec)
    return width * shape.parameters


def export_ram_bytes(shape: ModelShape, spec: ResolvedSpec) -> int:
    """Peak resident set of the merge, which is what an export needs most RAM for."""
    if spec.strategy == "full":
        return MERGE_PROCESS_BYTES
    return MERGE_PROCESS_BYTES + ceil(MERGE_TIMES_THE_WEIGHTS * weights_merged(shape, spec))


@lru_cache(maxsize=64)
def gguf(shape: ModelShape, name: GgufType) -> DiskTerm:
    """One GGUF file: SmolLM2-135M's q4_k_m within 3 % of 105.5 MB, its f16 within 1 %."""
    bits = sum(_bits(t, name, shape.tied) * t.parameters for t in shape.tensors())
    size = ceil(bits / 8) + METADATA_BYTES_PER_TOKEN * shape.vocab_size
    mean = bits / shape.parameters
    return DiskTerm(f"{name} GGUF", size, f"{mean:.2f} bits a weight, and the vocabulary")


def _bits(tensor: Tensor, name: GgufType, tied: bool) -> float:
    if tensor.kind in ("norm", "bias", "router"):
        return 32.0
    whole_rows = tensor.shape[-1] % K_QUANT_ROW == 0
    layers, otherwise = _LAYERS[name]
    if name in _EMBEDDING and tensor.kind in ("embedding", "head"):
        is_head = tensor.kind == "head" or tied
        if is_head:
            return _HEAD if whole_rows else _HEAD_OTHERWISE
        return _EMBEDDING[name] if whole_rows else otherwise
    return layers if whole_rows else otherwise
