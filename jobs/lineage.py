"""What a run's adapter comes from: read and made. See jobs/spec/lineage.py."""

from pathlib import Path
from typing import Any

import msgspec

from jobs import fingerprint, layout
from jobs.aside import write_aside
from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import BaseModel, Lineage, ResolvedSpec, departures, encode, template_sha256
from jobs.spec.bound import bindable
from jobs.versions import versions


def lineage_of(folder: Path) -> Lineage | None:
    """The lineage that an adapter's folder carries, or the run's around it; None without one."""
    for file in (folder / layout.LINEAGE, folder.parent / layout.LINEAGE):
        if file.is_file():
            try:
                return msgspec.json.decode(file.read_bytes(), type=Lineage)
            except (OSError, msgspec.DecodeError) as error:
                raise BadInput(f"{file}: {error}") from None
    return None


def own_lineage(job: ResolvedSpec, run_folder: Path, base: Path, tokenizer: Any) -> Lineage:
    """What a run's adapter comes from, its parent left out. `base` holds the weights as loaded."""
    template = tokenizer.chat_template
    return Lineage(
        run_id=job.run_id,
        task=job.task,
        base=BaseModel(
            id=job.model.id,
            revision=_commit(base),
            seed=job.seed if job.model.init == "random" else None,
            config_sha256=fingerprint.config_sha256(base),
            weights_sha256=fingerprint.weights_sha256(base),
            tokenizer_sha256=fingerprint.tokenizer_sha256(tokenizer),
            chat_template_sha256=template_sha256(
                template if isinstance(template, str | None) else str(sorted(template.items()))
            ),
        ),
        quantization=job.quantization,
        dtype=job.dtype,
        lora=None if job.strategy == "full" else job.lora,
        dimensions=() if job.regression is None else job.regression.dimensions,
        data_sha256=_data_sha256(job, run_folder),
        seed=job.seed,
        versions=versions(),
        provenance=job.provenance,
        code_sha256=fingerprint.code_sha256(),
    )


def bind(run_folder: Path, weights: Path) -> None:
    """Bind what was saved: the same lineage.json, with its files' hashes, in both folders."""
    lineage = lineage_of(run_folder)
    assert lineage is not None, "written when the base was loaded"
    files = {file.name: fingerprint.file_sha256(file) for file in bindable(weights)}
    content = encode(msgspec.structs.replace(lineage, files=files))
    write_aside(run_folder / layout.LINEAGE, content)
    write_aside(weights / layout.LINEAGE, content)


def require_bound(weights: Path, key: str) -> None:
    """Raises `BadInput`, said of `key`, where a folder of weights is not what its lineage binds."""
    try:
        found = departures(weights)
    except OSError as error:
        raise BadInput(f"{key}: {weights} cannot be read: {error}") from None
    if found:
        raise BadInput(
            f"{key}: {weights} is not what its {layout.LINEAGE} was written for: "
            f"{'; '.join(found)}; fetch it anew from where it was trained"
        )


def lineage_sha256(weights: Path) -> str:
    """Of the lineage.json in a folder of weights; "" without one."""
    file = weights / layout.LINEAGE
    return fingerprint.file_sha256(file) if file.is_file() else ""


def require_same_base(lineage: Lineage | None, base: Path) -> None:
    """Raises `BadInput` where the folder holds another base than the one that was trained on."""
    if lineage is None:
        return
    bound = {
        "config": (lineage.base.config_sha256, fingerprint.config_sha256(base)),
        "weights": (lineage.base.weights_sha256, fingerprint.weights_sha256(base)),
    }
    wrong = [
        f"its {name} is {now[:12]}, trained on {then[:12]}"
        for name, (then, now) in bound.items()
        if then != now
    ]
    if wrong:
        raise BadInput(
            f"model.id: {base} is another base than the adapter's: {'; '.join(wrong)}; "
            f"its revision was {lineage.base.revision or 'a folder'}"
        )


def _commit(base: Path) -> str | None:
    """The Hub's cache keeps a snapshot in a folder that is named by its commit."""
    return base.name if base.parent.name == "snapshots" else None


def _data_sha256(job: ResolvedSpec, run_folder: Path) -> dict[str, str]:
    found = {}
    for name in ("train", "validation", "test", "replay"):
        path, planned = getattr(job.data, name), getattr(job, f"{name}_sha256")
        if path is not None:
            file = data_file(path, f"data.{name}", run_folder, planned)
            found[name] = planned or fingerprint.file_sha256(file)
    return found
