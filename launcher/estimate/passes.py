"""Seconds of one pass through the model: a micro-step, a forward pass alone, a word of an answer.

Training on a card costs, for each micro-step, the larger of
  the work: FLOPs / (peak × share), and where that was fitted the passes over what is kept
  the launch: starting the layers' kernels from Python, which small models wait for
and, with NF4, the bytes moved to dequantise every weight.
A card's constants are evidence.py's: fitted to what was measured on it, or from published runs,
which `benchmarks/throughput_residuals.py` prints against this model. On a CPU they come from
`benchmarks/cpu_rate.py`.
"""

from functools import cache
from math import ceil
from typing import NamedTuple

from jobs.spec import ResolvedSpec
from launcher.estimate import inference, unlike_llama
from launcher.estimate.activations import saved_per_token
from launcher.estimate.batch import Widths, masked
from launcher.estimate.evidence import Rates, rates
from launcher.estimate.spans import Span
from launcher.estimate.tensors import ModelShape
from launcher.estimate.weights import base_width, widths_of
from launcher.types import Device

NF4_PASSES = 3  # forward, recomputation, backward: what the rows ran that its bytes are from
# Of keys and values for each word: read and written as the cache is copied to grow by one, and read
# (inference.py last_token says where).
CACHE_PASSES = 3
# A forward pass of all that a checkpointed step launches and moves beside its products: forward 1,
# recomputation 1, backward 2. With neither, 7B LoRA took 0.70 of the time (ms-swift, one A100,
# flash and eager alike), and our own job on a CPU 0.77 (docs/LOG.md, benchmarks/train.py).
STEP_PASSES = 4

# Experts against one matrix of their active size: the tokens are sorted and each expert gets some.
# Assumption, not measured.
EXPERTS_SLOWER = Span(1.0, 1.5, 3.0)

# TF32 of the dense 16-bit rate: A100 156 of 312, L4 60 of 121, H100 494.7 of 989 TFLOP/s (NVIDIA's
# data sheets).
TF32_SHARE = 1 / 2
# Fp32 of the dense 16-bit rate where a card's is not known: B200's, the least of catalog/gpus.py.
FP32_LEAST_SHARE = 1 / 30

# Of what plain operations on attention's scores move (unlike_llama.py). Assumption, not measured.
SCORES_MOVED = Span(0.7, 1.0, 1.5)

# CPU, one core of an AMD EPYC, 2026-11-21, `OMP_NUM_THREADS=1 python benchmarks/cpu_rate.py`:
# fp32 matmul 76-91 GFLOP/s.
CPU_GFLOPS_PER_CORE = Span(90.0, 75.0, 35.0)
# Elementwise work (norms, silu, dropout) per byte kept for the backward pass, fitted to the same
# run: 0.5-billion slice 2.9 ns, 256-wide model 5 ns.
CPU_SECONDS_PER_SAVED_BYTE = Span(2.0e-9, 3.5e-9, 6.0e-9)
# Fixed cost of a micro-step per layer, the same run: 4 layers of 256, 32 tokens: 50 ms, of which
# 29 ms do not fall with the tokens.
CPU_SECONDS_PER_LAYER = Span(0.005, 0.008, 0.016)
# Reading fp32 weights three times a micro-step: 0.5-billion slice (89 M weights), intercept 235 ms
# less the layers' 48 ms.
CPU_SECONDS_PER_WEIGHT = Span(1.0e-9, 2.1e-9, 4.0e-9)
# Dequantising NF4 on top of that: the slice's intercept rises by 240-280 ms for 89 M weights.
CPU_NF4_SECONDS_PER_WEIGHT = Span(2.0e-9, 2.9e-9, 6.0e-9)

# 16-bit arithmetic on a CPU without its own instructions for it. Assumption; all that was seen:
# two steps of 256 tokens, 0.5 B model in bf16 were not done in 165 s of one core (2026-11-21).
CPU_16BIT_SLOWDOWN = Span(2.0, 8.0, 20.0)


class Rows(NamedTuple):
    """What passes the model at once."""

    tokens: float
    length: float  # of one row; packed rows lie in one
    masked: bool
    last_alone: bool = False  # of each row the head sees the last token alone

    @property
    def seen(self) -> float:
        """Tokens that attention computes for one: all of its row, half of them without a mask.

        Then the kernels skip the future. With one they do not, nor do plain operations.
        """
        return self.length if self.masked else self.length / 2


def micro_batch(
    shape: ModelShape, spec: ResolvedSpec, tokens: float, *, padded: bool = True
) -> Rows:
    """A micro-batch of so many tokens, masked where `batch_of` has it so.

    `padded`: its rows differ in length, so several need a mask.
    """
    if spec.packs:
        return Rows(tokens, tokens, masked=True)
    rows = spec.train.rows_at_once
    return rows_of(shape, rows, tokens / rows, padded=padded)


def rows_of(shape: ModelShape, rows: float, length: float, *, padded: bool = True) -> Rows:
    """So many rows of one length, unpacked; `padded`: see `micro_batch`."""
    needed = masked(ceil(rows) if padded else 1, round(length), shape.window)
    return Rows(rows * length, length, masked=needed or shape.attention != "fused")


def flops_per_token(shape: ModelShape, spec: ResolvedSpec, seen: float) -> float:
    """Floating-point operations to train on one token that attention computes with `seen` others.

    A frozen weight costs 2 forward and 2 for the gradient of its input; a trained one 2 more
    (Kaplan et al. 2020, section 2.1, less the frozen weights' own gradient). Checkpointing
    repeats the layers' forward pass; the chunked loss repeats the head's. Attention: 4 × seen ×
    width forward (scores and values), twice that backward. Of the experts those count that a token
    passes; an adapter on them is merged for all tokens at once, see `merge_flops`, and gives them a
    gradient of their own.
    """
    layers = shape.active_parameters
    head = shape.head_parameters
    again = 1 if spec.train.activation_checkpointing else 0
    full = spec.strategy == "full"
    share = shape.experts_per_token / shape.experts if shape.experts else 0.0
    stacks = unlike_llama.adapted_experts(shape, spec.lora.targets)
    trained = layers + head if full else share * sum(t.parameters for t in stacks)
    adapter = 0 if full else _token_adapters(shape, spec.lora.targets, spec.lora.r)
    attention = 4 * seen * shape.attention_size * shape.layers
    return (
        (4 + 2 * again) * layers
        + 6 * head
        + 2 * trained
        + (6 + 2 * again) * adapter
        + (3 + again) * attention
    )


def forward_flops_per_token(shape: ModelShape, spec: ResolvedSpec, seen: float) -> float:
    """Of the same, what a forward pass without gradients takes."""
    layers = shape.active_parameters + shape.head_parameters
    full = spec.strategy == "full"
    adapter = 0 if full else _token_adapters(shape, spec.lora.targets, spec.lora.r)
    return 2 * layers + 2 * adapter + 4 * seen * shape.attention_size * shape.layers


@cache  # a plan asks for it hundreds of times
def _token_adapters(shape: ModelShape, targets: tuple[str, ...], r: int) -> int:
    """Of LoRA's parameters, those that tokens are multiplied with."""
    placed = [t for t in shape.tensors(targets) if t.target and t.kind == "linear"]
    return sum(sum(t.adapter(r)) * t.count for t in placed)


def merge_flops(shape: ModelShape, spec: ResolvedSpec, *, forward: bool = False) -> float:
    """Floating-point operations of a micro-step, or of a forward pass alone, to merge adapters
    into stacks of experts.

    B A is as large as the stack: 2 × its elements × rank forward, as much for each factor's
    gradient; checkpointing repeats the first.
    """
    if spec.strategy == "full":
        return 0.0
    passes = 1 if forward else 4 if spec.train.activation_checkpointing else 3
    return sum(
        2.0 * passes * t.parameters * spec.lora.r * len(t.answers_to)
        for t in unlike_llama.adapted_experts(shape, spec.lora.targets)
    )


def step_seconds(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    tokens: float,
    known: Rates | None = None,
    *,
    padded: bool = True,
) -> Span:
    """Seconds of one micro-step of `tokens` tokens; by what is `known`, else the card's rates.

    `padded`: see `micro_batch`.
    """
    rows = micro_batch(shape, spec, tokens, padded=padded)
    return _seconds(shape, spec, device, rows, known)


def forward_seconds(shape: ModelShape, spec: ResolvedSpec, device: Device, rows: Rows) -> Span:
    """Seconds of one forward pass without gradients."""
    return _seconds(shape, spec, device, rows, forward=True)


def _seconds(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    rows: Rows,
    known: Rates | None = None,
    *,
    forward: bool = False,
) -> Span:
    """Seconds of a micro-step, or of a forward pass alone."""
    if device.kind == "cpu":
        return _cpu_seconds(shape, spec, device, rows, forward=forward)
    known = known or rates(device)
    peak = peak_flops(spec, device)
    bandwidth = max(device.bandwidth_gb_s, 1.0) * 1e9
    done, read = (_done(spec, passes, forward) for passes in (STEP_PASSES, NF4_PASSES))
    flops = _flops(shape, spec, rows, forward=forward)
    seconds = Span(*(flops / (peak * s) for s in known.share))
    pairs = rows.tokens * rows.length * shape.layers
    moved = pairs * unlike_llama.pairs(shape, 2, rows.masked).moved
    seconds = seconds.plus(SCORES_MOVED * (done * moved / bandwidth))
    if known.passes_over_kept.high:
        each = saved_per_token(shape, widths_of(spec), spec.lora.targets)
        kept = rows.tokens * shape.layers * each
        seconds = seconds.plus(known.passes_over_kept * (done * kept / bandwidth))
    seconds = seconds.at_least(known.launch_seconds_per_layer * (done * shape.layers))
    seconds = _with_experts(shape, seconds)
    if spec.quantization is None:
        return seconds
    unpacking = read * shape.four_bit_parameters / bandwidth
    return seconds.plus(known.nf4_bytes_per_weight * unpacking)


def _flops(shape: ModelShape, spec: ResolvedSpec, rows: Rows, *, forward: bool) -> float:
    each = (forward_flops_per_token if forward else flops_per_token)(shape, spec, rows.seen)
    flops = rows.tokens * each + merge_flops(shape, spec, forward=forward)
    if rows.last_alone:
        flops -= 2 * shape.head_parameters * (rows.tokens - rows.tokens / rows.length)
    return flops


def _done(spec: ResolvedSpec, passes: int, forward: bool) -> float:
    """The share that is done of what a checkpointed step does so many times, once forward."""
    if forward:
        return 1 / passes
    return 1.0 if spec.train.activation_checkpointing else (passes - 1) / passes


def peak_flops(spec: ResolvedSpec, device: Device) -> float:
    """A card's data-sheet rate of products in the job's dtype, FLOP/s.

    `full` keeps fp32 weights, and computes in the job's dtype all the same (jobs/strategies.py).
    That fp32 reaches the share of its rate that 16 bits reach of theirs is an assumption.
    """
    tflops = device.dense_16bit_tflops
    if spec.dtype == "fp32" and spec.train.tf32:
        tflops *= TF32_SHARE
    elif spec.dtype == "fp32":
        tflops = device.fp32_tflops or tflops * FP32_LEAST_SHARE
    return max(tflops, 0.1) * 1e12


def _with_experts(shape: ModelShape, seconds: Span) -> Span:
    if not shape.experts:
        return seconds
    return Span(*(s * slower for s, slower in zip(seconds, EXPERTS_SLOWER, strict=True)))


def _cpu_seconds(
    shape: ModelShape, spec: ResolvedSpec, device: Device, rows: Rows, *, forward: bool
) -> Span:
    cores = max(1, device.cores)
    widths = Widths(
        compute=4,
        stream=4,
        adapter=4,
        rank=spec.lora.r,
        autocast=False,
        dropout=spec.lora.dropout > 0,
        full=False,
        nf4=False,
    )
    saved = rows.tokens * shape.layers * saved_per_token(shape, widths, spec.lora.targets)
    saved += (
        rows.tokens * rows.length * shape.layers * unlike_llama.pairs(shape, 4, masked=False).kept
    )
    weights = shape.parameters_of("linear", "experts")
    done, read = (_done(spec, passes, forward) for passes in (STEP_PASSES, NF4_PASSES))
    flops = _flops(shape, spec, rows, forward=forward)
    seconds = (
        Span(*(flops / (g * 1e9 * cores) for g in CPU_GFLOPS_PER_CORE))
        .plus(CPU_SECONDS_PER_SAVED_BYTE * (done * saved / cores))
        .plus(CPU_SECONDS_PER_LAYER * (done * shape.layers))
        .plus(CPU_SECONDS_PER_WEIGHT * (read * weights))
    )
    if spec.quantization is not None:
        unpacking = CPU_NF4_SECONDS_PER_WEIGHT * (read * shape.four_bit_parameters)
        seconds = seconds.plus(unpacking)
    seconds = _with_experts(shape, seconds)
    if spec.dtype != "fp32":
        seconds = Span(*(s * slow for s, slow in zip(seconds, CPU_16BIT_SLOWDOWN, strict=True)))
    return seconds


def answer_seconds(
    shape: ModelShape, spec: ResolvedSpec, device: Device, rows: int, context: float = 0.0
) -> Span:
    """Seconds of one generated token for a whole batch: weights are read once, or dequantised.

    Of the experts those are read that some row passes, at most `rows` × the experts per token. So
    are the keys and values of `context` tokens a row.
    """
    cached = CACHE_PASSES * rows * _cached_bytes(shape, spec, context)
    quantised, read = shape.four_bit_parameters, float(shape.parameters_of("linear"))
    if shape.experts:
        share = min(1.0, rows * shape.experts_per_token / shape.experts)
        read += share * shape.parameters_of("experts")
    weights = read + shape.head_parameters
    if device.kind == "cpu":
        flops = 2.0 * (shape.active_parameters + shape.head_parameters) * rows
        cores = max(1, device.cores)
        work = Span(*(flops / (g * 1e9 * cores) for g in CPU_GFLOPS_PER_CORE))
        work = work.plus(CPU_SECONDS_PER_WEIGHT * ((weights + cached / 4) / NF4_PASSES))
        if spec.quantization is not None:
            work = work.plus(CPU_NF4_SECONDS_PER_WEIGHT * (quantised / NF4_PASSES))
        return work.plus(CPU_SECONDS_PER_LAYER * (shape.layers / NF4_PASSES))
    known = rates(device)
    bandwidth = max(device.bandwidth_gb_s, 1.0) * 1e9
    work = Span(1.0, 1.5, 3.0) * ((base_width(spec) * weights + cached) / bandwidth)
    if spec.quantization is not None:
        work = work.plus(known.nf4_bytes_per_weight * (quantised / bandwidth / NF4_PASSES))
    return work.at_least(known.launch_seconds_per_layer * (shape.layers / NF4_PASSES))


def _cached_bytes(shape: ModelShape, spec: ResolvedSpec, context: float) -> float:
    """Keys and values of all layers for one row; layers that slide keep their window."""
    window = shape.window
    sliding = window.layers / shape.layers if window is not None else 0.0
    kept = min(context, window.tokens) if window is not None else context
    tokens = (1 - sliding) * context + sliding * kept
    return tokens * inference.kv_cache_per_token(shape, widths_of(spec))


def reading_seconds(
    shape: ModelShape, spec: ResolvedSpec, device: Device, rows: float, tokens: float
) -> Span:
    """Seconds to read so many questions at once, each of `tokens`; the head sees the last alone."""
    questions = rows_of(shape, rows, tokens)._replace(last_alone=True)
    return forward_seconds(shape, spec, device, questions)
