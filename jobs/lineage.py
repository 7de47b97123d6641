"""What a run's adapter comes from: read and made. See jobs/spec/lineage.py."""

from pathlib import Path
from typing import Any

import msgspec

from jobs import fingerprint, layout
from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import BaseModel, Lineage, ResolvedSpec, template_sha256
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
