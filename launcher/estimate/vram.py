"""Peak memory of one training job on one device, term by term. All figures are bytes.

What stands throughout (weights.py), and the moments that can be the peak (moments.py): each is a
term, and those that are over before the peak count 0 and say so.
"""

from math import ceil

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate import activations
from launcher.estimate.activations import layer_at_work
from launcher.estimate.adapters import require_adapters
from launcher.estimate.batch import Widths, batch_of, micro_tokens
from launcher.estimate.evidence import MEASURED, overheads
from launcher.estimate.moments import (
    Loss,
    Moment,
    kept_by_last_norm,
    moments,
    saved_by_layers,
    waiting_copies,
)
from launcher.estimate.processes import of_one
from launcher.estimate.tensors import ModelShape
from launcher.estimate.unlike_llama import is_unlike
from launcher.estimate.weights import (
    file_width,
    gradient_bytes,
    mapped,
    term,
    trained,
    weights,
    widths_of,
)
from launcher.types import GIB, MIB, Device, MemoryTerm

# Assumption: a process that drives a card, with its CUDA libraries in RAM.
HOST_PROCESS_BYTES = 4 * GIB
# Published models mostly keep files of 5 GB. Files are mapped, so this much is wanted beside the
# process, not strictly needed. Assumption.
WEIGHT_FILE_BYTES = 5_000_000_000
# Python with torch, transformers, peft, trl and datasets imported: 499 MB resident (November 2026);
# the first step adds 0.2 GiB of libraries and workspaces (benchmarks/cpu_heap.py loss at 256
# tokens: 0.51 GiB, of which 0.29 are tiles; 2026-11-21).
PROCESS_BYTES = 499_000_000 + 200 * MIB
# glibc keeps freed blocks below 32 MB, so that even checkpointed layers leave their activations on
# the heap. benchmarks/cpu_heap.py on SmolLM2-135M, 4 x 512, 2026-11-21: 2.45-3.22 GiB after the
# forward pass, and 0.33 with MALLOC_MMAP_THRESHOLD_=1000000, where this model says 0.33; without
# checkpointing 6.25 against 4.19. A share of all layers' activations: 0.5-0.7.
CPU_HEAP_SHARE = 0.55
# Residuals, measured / ours - 1, of `python -m benchmarks.cpu_memory` on 2026-11-21: five cases,
# seven runs, LoRA -6 to +5 %, NF4 -16 to +24 %; the highest, rounded up, since the same case
# moved by 10 % between runs. The heap's share was chosen within its range with these in sight.
CPU_UPPER_MARGIN = 0.30
# Above the expected peak of a kind of job that no row is of: two standard deviations of a new group
# of rows, exp(2 x sqrt(within^2 + between^2)) - 1 of calibration.py's MEMORY. That it is two is an
# assumption; of a group that has rows they come to 27 %, near evidence.py's UPPER_MARGIN.
UNSEEN_MARGIN = 0.37
# Layers that are not Llama's (unlike_llama.py): how far ours was from what autograd keeps of them
# on a CPU, and from their checkpointed peak, at most (tests/integration/test_kept_activations.py,
# docs/LOG.md). There ours was too much each time; that it is no further off the other way on a
# card is an assumption.
UNLIKE_KEPT, UNLIKE_CHECKPOINTED = 0.22, 0.37


class Memory(Struct, frozen=True, kw_only=True):
    """Terms that add up to the expected peak, and a bound for it."""

    terms: tuple[MemoryTerm, ...]
    expected_bytes: int
    upper_bytes: int


class Bound(Struct, frozen=True):
    """How far the upper bound lies above the expected peak, by what is known of such a job."""

    share: float  # of the expected peak
    of_activations: float  # of what comes and goes, more
    why: str


class Timeline(Struct, frozen=True, kw_only=True):
    """What stands throughout a step, and what is there beside it at each moment."""

    standing: tuple[MemoryTerm, ...]
    gradients: int  # once all are there
    through: int  # beside what stands when the layers are through: kept, copies, the last output
    moments: tuple[Moment, ...]


def memory(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    *,
    prompt_tokens: int | None = None,
    loss: Loss = "chunked",
) -> Memory:
    """Peak memory of the job; `prompt_tokens` is the longest row's, for the evaluation.

    Rows count as full (`seq_len` tokens). `loss` is TRL's chunked path, or transformers' own for
    comparison with published runs. Raises `BadInput` where PEFT cannot put LoRA's adapters.
    """
    if spec.strategy != "full":
        require_adapters(shape, spec.lora)
    widths = widths_of(spec)
    standing = of_one(shape, spec, weights(shape, spec), trained(shape, spec, widths))
    gradients, *passing = _at_the_peak(moments(shape, spec, device, widths, loss, prompt_tokens))
    standing.append(gradients)
    if device.kind == "cpu":
        why = "Python, torch, transformers, peft, trl at work"
        standing += [*mapped(shape, spec), _heap(shape, spec, widths)]
        standing.append(term("process", PROCESS_BYTES, why, "process"))
    else:
        known = overheads(device)
        standing.append(_slack(passing, known.slack))
        if device.kind == "cuda":
            size, why = known.context_bytes, known.context_source
            standing.append(term("CUDA context", size, why, "process"))
        else:
            why = "Python and its libraries at work, in the same memory; as on a CPU: assumption"
            standing.append(term("process", PROCESS_BYTES, why, "process"))
    terms = (*standing, *passing)
    expected = sum(t.bytes for t in terms)
    bound = bound_of(shape, spec, device)
    passed = sum(t.bytes for t in passing)
    upper = ceil(expected * (1 + bound.share) + passed * bound.of_activations)
    return Memory(terms=terms, expected_bytes=expected, upper_bytes=upper)


def bound_of(shape: ModelShape, spec: ResolvedSpec, device: Device) -> Bound:
    """The bound of the memory, wider where less is known."""
    unseen = [
        *(["Metal"] if device.kind == "mps" else []),
        *(["full fine-tuning"] if spec.strategy == "full" else []),
        *(["several processes"] if spec.processes > 1 else []),
    ]
    if device.name in MEASURED:
        share, why = overheads(device).margin, f"measured on {device.name}"
        unseen = [one for one in unseen if one == "several processes"]
    elif device.kind == "cpu":
        share, why = CPU_UPPER_MARGIN, "five LoRA and NF4 jobs on one CPU"
    else:
        share, why = overheads(device).margin, "published LoRA and NF4 jobs on other cards"
    if unseen:
        share = max(share, UNSEEN_MARGIN)
        why = f"no row is of {' or '.join(unseen)}: twice the scatter of other jobs' rows"
    if not is_unlike(shape):
        return Bound(share, 0.0, f"+{share:.0%}, {why}")
    more = UNLIKE_CHECKPOINTED if spec.train.activation_checkpointing else UNLIKE_KEPT
    layers = f"+{more:.0%} of the activations, as far as ours was off for such layers on a CPU"
    return Bound(share, more, f"+{share:.0%}, {why}; and {layers}")


def timeline(
    shape: ModelShape,
    spec: ResolvedSpec,
    device: Device,
    *,
    prompt_tokens: int | None = None,
    loss: Loss = "chunked",
) -> Timeline:
    """The moments as torch allocates them: no slack, no context, no process.

    What benchmarks/vram_oracle.py is held against.
    """
    w = widths_of(spec)
    batch = batch_of(spec, shape.window)
    saved = saved_by_layers(shape, spec, w, layer_at_work(shape, w, spec.lora.targets, batch))
    output = batch.tokens * shape.hidden_size * w.stream
    return Timeline(
        standing=(*weights(shape, spec), *trained(shape, spec, w)),
        gradients=gradient_bytes(shape, spec, w),
        through=saved
        + kept_by_last_norm(shape, w, batch)
        + output
        + waiting_copies(shape, spec, w),
        moments=tuple(moments(shape, spec, device, w, loss, prompt_tokens)),
    )


def host_bytes(shape: ModelShape, spec: ResolvedSpec, upper_bytes: int) -> int:
    """RAM of one machine: on a CPU and with Metal all of it, as there is one memory; beside cards
    their processes and what passes through.

    Every GPU has a process of its own. Once a machine, whatever the processes: a weight file while
    loading, which all of them map and the page cache holds once; or at the end all that was
    trained, which rank 0 alone writes: safetensors 0.8 torch.py _flatten_as_ptr keeps every
    tensor's copy on the host until the file is written.
    """
    if spec.device != "cuda":
        return upper_bytes
    processes = ceil(spec.processes / spec.nodes)
    loading = min(file_width(shape, spec) * shape.parameters, WEIGHT_FILE_BYTES)
    if spec.sharding == "full":
        loading = max(loading, _loaded_for_sharding(shape, spec, processes))
    through = max(loading, gradient_bytes(shape, spec, widths_of(spec)))
    return processes * HOST_PROCESS_BYTES + through


def _loaded_for_sharding(shape: ModelShape, spec: ResolvedSpec, processes: int) -> int:
    """The whole model in RAM before FSDP shares it out (jobs/strategies.py: no device_map).

    One process loads it and sends it to the others, but for a quantised model, which each loads
    (transformers 5.23 modeling_utils.py _move_missing_keys_from_meta_to_device). Not measured.
    """
    whole = sum(t.bytes for t in weights(shape, spec))
    return whole * (processes if spec.quantization is not None else 1)


def _at_the_peak(found: list[Moment]) -> list[MemoryTerm]:
    """Gradients, saved activations, and what each moment adds: only the largest one counts."""
    largest = max(found, key=lambda m: m.bytes)
    return [
        term("gradients", largest.gradients, f"of what is trained, at the peak ({largest.name})"),
        term("saved activations", largest.saved, f"at the peak ({largest.name})"),
        *(
            term(m.name, m.own, m.why)
            if m is largest
            else term(m.name, 0, f"{m.bytes / GIB:.2f} GiB beside the weights, not the peak")
            for m in found
        ),
    ]


def _slack(terms: list[MemoryTerm], share: float) -> MemoryTerm:
    size = int(share * sum(t.bytes for t in terms))
    why = f"{share:.0%} of {', '.join(t.name for t in terms if t.bytes)}"
    return term("allocator slack", size, why, "reserved")


def _heap(shape: ModelShape, spec: ResolvedSpec, w: Widths) -> MemoryTerm:
    if spec.train.lean_heap:
        why = "lean_heap: freed blocks go back to the system"
        return term("allocator slack", 0, why, "reserved")
    per_token = activations.saved_per_token(shape, w, spec.lora.targets)
    whole = shape.layers * micro_tokens(spec) * per_token
    why = f"freed blocks the heap keeps: {CPU_HEAP_SHARE:.0%} of all layers' activations"
    return term("allocator slack", int(CPU_HEAP_SHARE * whole), why, "reserved")
