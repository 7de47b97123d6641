"""What one job needs on one offer: memory, disk, time. Pure: no file, no network, no clock."""

from math import ceil

import msgspec

from jobs.spec import ResolvedSpec
from launcher.estimate import disk, hours, renting, vram, weights
from launcher.estimate.calibration import NONE, Calibration, calibrated, card_name
from launcher.estimate.evidence import evidence
from launcher.estimate.tensors import ModelShape
from launcher.estimate.work import Work, work_of
from launcher.types import COLLECT_MINUTES, GIB, DataFacts, Device, Estimate, Offer


def estimate(
    spec: ResolvedSpec,
    shape: ModelShape,
    data: DataFacts,
    offer: Offer,
    calibration: Calibration = NONE,
    collect_minutes: int = COLLECT_MINUTES,
) -> Estimate:
    """Memory terms in bytes and time terms in hours of `spec` on `offer`.

    `calibration` is what finished runs of the same strategy on the same card measured;
    `collect_minutes` is how long a rented machine waits for its results to be fetched. Raises
    `BadInput` where PEFT cannot put LoRA's adapters on the model.
    """
    found = _plain(spec, shape, data, offer, collect_minutes)
    card = calibration.get((card_name(offer.device, offer.count), spec.strategy))
    if card is not None:
        found = calibrated(found, card, offer.device, spec.strategy, offer.count)
    if offer.spot and offer.interruptions_per_hour is not None:
        lost = renting.interruptions(offer.interruptions_per_hour, found.time)
        found = msgspec.structs.replace(found, time=(*found.time, lost))
    return found


def _plain(
    spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer, collect_minutes: int
) -> Estimate:
    """What follows from spec, model and card alone."""
    published = shape.parameters
    if spec.regression is not None:
        shape = msgspec.structs.replace(shape, outputs=len(spec.regression.dimensions))
    asked = max(data.longest_characters, data.longest_judged_characters)
    longest = asked * data.tokens_per_character
    longest += data.template_tokens_per_row
    if spec.regression is not None:  # texts are cut, questions are not (jobs/evaluate.py _answer)
        longest = min(longest, spec.train.seq_len)
    need = vram.memory(shape, spec, offer.device, prompt_tokens=ceil(longest))
    work = work_of(spec, data)
    known = evidence(offer.device)
    sizes = weights.trained_sizes(shape, spec)
    trained = sum(n * times for n, times in sizes)
    files = disk.base(shape, spec, published).bytes
    download = files if spec.model.init == "pretrained" and _from_hub(spec) else 0
    upload = 4 * trained + disk.RUN_FILES_BYTES
    stored = disk.job(shape, spec, published)
    return Estimate(
        memory=need.terms,
        memory_expected_bytes=need.expected_bytes,
        memory_upper_bytes=need.upper_bytes,
        host_ram_bytes=vram.host_bytes(shape, spec, need.upper_bytes),
        disk_bytes=sum(t.bytes for t in stored),
        disk=stored,
        mirrored_bytes=_checkpoints(spec, work) * weights.checkpoint_bytes(sizes, spec),
        export=disk.export(shape, spec),
        export_ram_bytes=disk.export_ram_bytes(shape, spec),
        time=hours.terms(
            shape,
            spec,
            offer,
            work,
            download_bytes=download,
            weight_bytes=files,
            upload_bytes=upload,
            collect_minutes=collect_minutes,
        ),
        train_tokens=work.train_tokens,
        parameters_total=shape.parameters,
        parameters_trainable=trained,
        speed=known.status,
        assumptions=(
            _speed(offer.device),
            f"upper bound of the memory: {vram.bound_of(shape, spec, offer.device).why}",
            *_assumptions(spec, shape, data),
            *_of_the_memory(offer.device),
        ),
    )


def _checkpoints(spec: ResolvedSpec, work: Work) -> int:
    """How many a job makes at most: by steps, at each epoch's end, and one when it is stopped."""
    steps = ceil(work.micro_steps * spec.train.rows_at_once / spec.train.effective_batch)
    return steps // spec.train.checkpoint_every_steps + ceil(spec.train.epochs) + 1


def _from_hub(spec: ResolvedSpec) -> bool:
    return not spec.model.id.startswith((".", "/", "~"))


def _assumptions(spec: ResolvedSpec, shape: ModelShape, data: DataFacts) -> tuple[str, ...]:
    rows = data.tokenizer_rows
    by = f"counted on {rows} rows by the model's tokenizer" if rows else "no tokenizer at hand"
    found = [
        f"{data.tokens_per_character:.3g} tokens a character and"
        f" {data.template_tokens_per_row:.0f} a row for the template ({by}), no row above"
        f" {spec.train.seq_len} tokens",
        "memory is for rows of full length",
    ]
    missing = shape.unmatched(spec.lora.targets) if spec.strategy != "full" else ()
    if missing:
        on = ", ".join(n for n in shape.target_names if n in spec.lora.targets)
        found.append(
            f"LoRA targets {', '.join(missing)} match nothing in {shape.architecture}:"
            f" adapters sit on {on} alone (its layers: {', '.join(shape.target_names)})"
        )
    found += _of_the_family(spec, shape)
    if spec.processes > 1:
        found.append(
            f"memory is that of each of {spec.processes} processes, NCCL's buffers not counted"
            + ("; FSDP's shares are not measured" if spec.sharding == "full" else "")
        )
    return tuple(found)


def _speed(device: Device) -> str:
    known = evidence(device)
    if device.kind == "mps":
        return f"speed of {device.name}: {known.status}: rated as an M1, the slowest of its kind"
    return f"speed of {device.name}: {known.status}: {known.source}"


def _of_the_memory(device: Device) -> tuple[str, ...]:
    if device.kind == "cuda":
        return ("CUDA context, network and image size: not measured on this card",)
    if device.kind == "mps":
        total, usable = (f"{size / GIB:.1f}" for size in (device.total_bytes, device.usable_bytes))
        return (
            f"one memory for the process and the GPU: of {total} GiB {usable} are taken as usable,"
            " two thirds at most, and of this machine's no more than is free",
            "its allocator is taken to hold as much on top as CUDA's; neither is measured",
        )
    return ()


def _of_the_family(spec: ResolvedSpec, shape: ModelShape) -> list[str]:
    """What is not Llama's way in this model, and how sure its figures are."""
    found = []
    if shape.experts:
        active = shape.active_parameters + shape.head_parameters
        found.append(
            f"{shape.experts_per_token} of {shape.experts} experts a token:"
            f" {active / 1e9:.2f} B parameters at work; the experts' rate is not measured"
        )
    if shape.experts and spec.quantization is not None:
        kept = sum(t.parameters for t in shape.tensors() if not t.four_bit)
        found.append(
            f"{kept / shape.parameters:.0%} of the parameters stay in {spec.dtype}:"
            " transformers stacks the experts, and bitsandbytes quantises no stack"
        )
    if shape.attention in ("softcapped", "broadcast"):
        found.append(
            f"no fused attention kernel takes {shape.architecture}:"
            " memory and time grow with the square of the length; counted, not measured on a card"
        )
    if not shape.gated:
        found.append(f"{shape.architecture}'s memory was checked on a CPU, not on a card")
    return found
