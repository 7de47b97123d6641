"""What one job needs on one offer: memory, disk, time. Pure: no file, no network, no clock."""

from math import ceil

import msgspec

from jobs.spec import ResolvedSpec
from launcher.estimate import hours, vram, weights
from launcher.estimate.calibration import NONE, Calibration, calibrated, card_name
from launcher.estimate.evidence import evidence
from launcher.estimate.tensors import ModelShape
from launcher.estimate.work import work_of
from launcher.types import DataFacts, Estimate, Offer

# Assumption: packages and caches beside the weights, as the training environment takes 1.6 GB
# (measured, November 2026) and an image as much again.
DISK_BASE_BYTES = 8_000_000_000
# Files of a run beside adapters and checkpoints: log, metrics, samples. Assumption.
RUN_FILES_BYTES = 20_000_000


def estimate(
    spec: ResolvedSpec,
    shape: ModelShape,
    data: DataFacts,
    offer: Offer,
    calibration: Calibration = NONE,
) -> Estimate:
    """Memory terms in bytes and time terms in hours of `spec` on `offer`.

    `calibration` is what finished runs of the same strategy on the same card measured. Raises
    `BadInput` where PEFT cannot put LoRA's adapters on the model.
    """
    plain = _plain(spec, shape, data, offer)
    card = calibration.get((card_name(offer.device), spec.strategy))
    return plain if card is None else calibrated(plain, card, offer.device, spec.strategy)


def _plain(spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer) -> Estimate:
    """What follows from spec, model and card alone."""
    if spec.regression is not None:
        shape = msgspec.structs.replace(shape, outputs=len(spec.regression.dimensions))
    longest = data.longest_characters * data.tokens_per_character
    longest += data.template_tokens_per_row
    need = vram.memory(
        shape, spec, offer.device, prompt_tokens=min(ceil(longest), spec.train.seq_len)
    )
    work = work_of(spec, data)
    known = evidence(offer.device)
    sizes = weights.trained_sizes(shape, spec)
    trained = sum(n * times for n, times in sizes)
    files = 2 * shape.parameters  # as published: 16 bits a parameter
    download = files if spec.model.init == "pretrained" and _from_hub(spec) else 0
    checkpoint = weights.checkpoint_bytes(sizes, spec)
    upload = 4 * trained + RUN_FILES_BYTES
    return Estimate(
        memory=need.terms,
        memory_expected_bytes=need.expected_bytes,
        memory_upper_bytes=need.upper_bytes,
        host_ram_bytes=vram.host_bytes(shape, spec, need.upper_bytes),
        disk_bytes=DISK_BASE_BYTES
        + files
        + upload
        + (spec.train.checkpoints_kept + 1) * checkpoint,
        time=hours.terms(
            shape,
            spec,
            offer,
            work,
            download_bytes=download,
            weight_bytes=files,
            upload_bytes=upload,
        ),
        train_tokens=work.train_tokens,
        parameters_total=shape.parameters,
        parameters_trainable=trained,
        speed=known.status,
        assumptions=(
            f"speed of {offer.device.name}: {known.status}: {known.source}",
            *_assumptions(spec, shape, data),
        ),
    )


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
        on = ", ".join(n for n in shape.target_names() if n in spec.lora.targets)
        found.append(
            f"LoRA targets {', '.join(missing)} match nothing in {shape.architecture}:"
            f" adapters sit on {on} alone (its layers: {', '.join(shape.target_names())})"
        )
    found += _of_the_family(spec, shape)
    if spec.device != "cpu":
        found.append("CUDA context 512 MiB, network and image size: not measured")
    return tuple(found)


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
