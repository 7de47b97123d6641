"""What is known of a device: its constants, and whether they were measured on it, by whom, or
nowhere."""

from typing import Literal

import msgspec
from msgspec import Struct

from launcher.estimate.spans import Span
from launcher.types import MIB, Device

Status = Literal["measured", "foreign data", "unmeasured"]


class Rates(Struct, frozen=True, kw_only=True):
    """What the hours of a step are made of."""

    share: Span  # of the data sheet's dense 16-bit rate, reached by the matmuls: best first
    launch_seconds_per_layer: Span  # to start one checkpointed layer's kernels, all passes
    nf4_bytes_per_weight: Span  # moved for the dequantisation of one micro-step
    # Passes of a checkpointed micro-step over the bytes that one forward pass keeps for the
    # backward one: norms, activations, dropout, each a kernel of its own. Published rows do not
    # tell them from the share.
    passes_over_kept: Span = Span(0.0, 0.0, 0.0)


class Overheads(Struct, frozen=True, kw_only=True):
    """What a card holds beside the tensors."""

    slack: float  # of torch's allocator: a share of what comes and goes
    margin: float  # of the upper bound above the expected peak
    context_bytes: int
    context_source: str


class Foreign(Struct, frozen=True):
    """What others measured on a card."""

    rows: str
    share: float  # of the data sheet's rate, expected


class Fitted(Struct, frozen=True, kw_only=True):
    """One card's constants, as `python -m benchmarks.fit_card` reads them from its file."""

    rates: Rates
    overheads: Overheads


# Cards with a file of benchmarks/measure_gpu.py's, docs/measured/<card>.csv.
MEASURED: dict[str, Fitted] = {}
# Cards with published rates that `python -m benchmarks.throughput_residuals` reads: other people's
# LoRA and NF4 jobs, under other software. The share is PUBLISHED's, moved towards the card's own
# rows as calibration.py moves an estimate towards runs.
FOREIGN = {
    "A100-80GB": Foreign("18 rows of LoRA on Qwen 1.8B to 14B (qwen-readme)", share=0.46),
    "RTX3090": Foreign("2 rows of LoRA and QLoRA on Llama 2 7B (answerai)", share=0.69),
    "RTX4090": Foreign("2 rows of LoRA and QLoRA on Llama 2 7B (answerai)", share=0.61),
}
# The share of throughput_measured_dev.csv's exact lengths of 2048 and more, as that script prints
# it: qwen-readme LoRA on one A100 0.32-0.56; answerai LoRA and NF4 on 4090 and 3090 0.63-0.75. The
# launch: qwen-readme LoRA rows at 256 tokens, where time no longer falls with length: 1.8B 125 ms /
# 24 layers, 14B 200 ms / 40. NF4: ms-swift on one A100 (2,039 GB/s), int4 (bnb) against LoRA:
# qwen-7b 2.41 against 4.31 samples/s, 14b 1.36 against 2.60: 24 ps a weight, twice.
PUBLISHED = Rates(
    share=Span(0.75, 0.50, 0.31),
    launch_seconds_per_layer=Span(0.0025, 0.005, 0.008),
    nf4_bytes_per_weight=Span(25.0, 49.0, 75.0),
)
# For a card that no row is of. Told from the two other cards (means of those rows: A100 0.48, 3090
# 0.74, 4090 0.64), each card's share is off by a factor of 0.70, 1.31 and 1.05.
FROM_OTHERS = Rates(
    share=Span(0.75 * 1.31, 0.50, 0.31 * 0.70),
    launch_seconds_per_layer=PUBLISHED.launch_seconds_per_layer,
    nf4_bytes_per_weight=PUBLISHED.nf4_bytes_per_weight,
)
# Share of what comes and goes that torch's caching allocator holds on top: the exact-length rows
# that state their counter (answerai, reserved per GPU) need 0.40 (LoRA) and 0.59 (NF4), as `python
# -m benchmarks.vram_residuals` prints them on 2026-11-21; the middle.
CUDA_SLACK = 0.50
# Above the expected peak, per strategy: the highest residual, measured / ours - 1, of the exact
# -length rows, as `python -m benchmarks.vram_residuals` prints them on 2026-11-21: LoRA qwen-readme
# +22 %, NF4 answerai +5 % (two rows alone, so LoRA's margin holds there too), rounded up. Not
# covered: ms-swift and unsloth rows (up to +126 %), whose reserved counters grow with varying
# lengths until the card is full, under older software; a need is not read from them. What no row is
# of has vram.py's UNSEEN_MARGIN.
UPPER_MARGIN = 0.25

# Driver, kernels and libraries of one process on one card, by compute capability: what PyTorch's
# out-of-memory messages say that the process holds, less allocated, less reserved (each to 0.01
# GiB). Of single-process runs under other software, whose kernels are not ours: inference, mostly.
# The largest report of an architecture (T4 99 and 135 MiB, RTX 4090 416 to 521).
CUDA_CONTEXTS = {
    (7, 5): 135 * MIB,  # T4: https://github.com/Zheng-Chong/CatVTON/issues/133
    (8, 0): 501 * MIB,  # A100: https://github.com/TianheWu/CoSeR/issues/10
    (8, 9): 521 * MIB,  # RTX 4090: https://github.com/huggingface/lora-fast/issues/1
    (12, 0): 595 * MIB,  # RTX 5090: https://github.com/Wan-Video/Wan2.1/issues/465
}
# Assumption: no architecture without a report takes more than those with one.
CUDA_CONTEXT_BYTES = max(CUDA_CONTEXTS.values())
# The CPU that benchmarks/cpu_rate.py ran on (docs/LOG.md). Its kernel named no model.
MEASURED_CPU = "AMD EPYC"


class Evidence(Struct, frozen=True):
    status: Status
    source: str


def evidence(device: Device) -> Evidence:
    """What is known of this device's speed."""
    if device.kind == "cpu":
        if device.name == MEASURED_CPU:
            return Evidence("measured", "benchmarks/cpu_rate.py on a CPU of that name")
        if device.name.startswith(f"{MEASURED_CPU} "):
            return Evidence("foreign data", f"an {MEASURED_CPU} whose model was not recorded")
        return Evidence("unmeasured", f"from {MEASURED_CPU}'s cores")
    if device.name in MEASURED:
        return Evidence("measured", f"docs/measured/{device.name}.csv")
    if device.name in FOREIGN:
        return Evidence("foreign data", FOREIGN[device.name].rows)
    return Evidence("unmeasured", f"from {', '.join(FOREIGN)} and the data sheet")


def rates(device: Device) -> Rates:
    """What a card's hours are reckoned with."""
    if device.name in MEASURED:
        return MEASURED[device.name].rates
    if device.name in FOREIGN:
        low, _, high = PUBLISHED.share
        share = Span(low, FOREIGN[device.name].share, high)
        return msgspec.structs.replace(PUBLISHED, share=share)
    return FROM_OTHERS


def overheads(device: Device) -> Overheads:
    """What a card's memory is reckoned with."""
    if device.name in MEASURED:
        return MEASURED[device.name].overheads
    capability = device.compute_capability
    context = CUDA_CONTEXTS.get(capability) if capability is not None else None
    source = "assumption: the largest reported for any architecture"
    if context is not None and capability is not None:
        source = f"as reported for compute capability {capability[0]}.{capability[1]}"
    return Overheads(
        slack=CUDA_SLACK,
        margin=UPPER_MARGIN,
        context_bytes=context or CUDA_CONTEXT_BYTES,
        context_source=source,
    )
