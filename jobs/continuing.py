"""Going on from an earlier adapter: it must be there, fit, and be one that was trained.

A run that was told to continue never begins anew in silence: whatever does not match is
`BAD_INPUT`, before a step is trained. What the run itself comes from is written to lineage.json.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jobs import adapters, fingerprint, layout
from jobs.adapters import Adapter
from jobs.aside import write_aside
from jobs.download import from_hub
from jobs.lineage import lineage_of, own_lineage, require_bound
from jobs.outcome import BadInput
from jobs.spec import Lineage, Parent, differences, encode

if TYPE_CHECKING:
    from jobs.attempt import Attempt

HUB = "hub:"

# Settings of an adapter that change how one trains or where it lies, not what its weights mean.
_FREE = (
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "inference_mode",
    "init_lora_weights", "loftq_config", "lora_dropout", "lora_ga_config", "modules_to_save",
    "peft_type", "peft_version", "revision", "runtime_config", "task_type",
)  # fmt: skip


def require_parent(a: "Attempt") -> None:
    """Raises `BadInput` where the parent is a folder and not there. Before heavy imports."""
    source = wanted(a)
    if source is not None and not source.startswith(HUB):
        parent_folder(source, a.folder)


def wanted(a: "Attempt") -> str | None:
    """What to begin from; None for a fresh run, and for one that has a checkpoint of its own."""
    return a.job.resume_from if a.resume is None else None


def parent_folder(source: str, run_folder: Path) -> Path:
    """The folder of the parent's adapter, fetched where it is on the Hub."""
    if source.startswith(HUB):
        repository, _, revision = source.removeprefix(HUB).partition("@")
        folder = from_hub(repository, revision or None, "resume_from")
        return adapters.adapter_folder(folder)
    try:
        return adapters.adapter_folder(source, run_folder)
    except BadInput as error:
        raise BadInput(f"resume_from: {error}") from None


def settle_lineage(a: "Attempt", base: Path, tokenizer: Any) -> None:
    """Write lineage.json. Raises `BadInput` where the parent's, or the one that an earlier attempt
    of this run wrote, has another base, template, quantisation or adapter."""
    own = own_lineage(a.job, a.folder, base, tokenizer)
    file = a.folder / layout.LINEAGE
    source = wanted(a)
    if source is not None:
        folder = parent_folder(source, a.folder)
        require_bound(folder, "resume_from")
        known = lineage_of(folder)
        parent = Parent(
            source=source,
            adapter_sha256=fingerprint.file_sha256(folder / adapters.WEIGHTS),
            run_id=None if known is None else known.run_id,
        )
        own = msgspec.structs.replace(own, parent=parent)
        _require_same(source, known, own)
        if known is None:
            a.outcome.warnings.append(
                f"{source} has no {layout.LINEAGE}: that it was trained on this base, template and "
                "quantisation is not known"
            )
    elif a.resume is not None and file.is_file():
        before = lineage_of(a.folder)
        _require_same(f"the checkpoint of {a.job.run_id}", before, own)
        own = msgspec.structs.replace(own, parent=before.parent if before else None)
    if a.ranks.first:
        write_aside(file, encode(own))
    a.ranks.wait()


def _require_same(source: str, known: Lineage | None, own: Lineage) -> None:
    found = [] if known is None else differences(known, own)
    if found:
        raise BadInput(f"resume_from: cannot go on from {source}: {'; '.join(found)}")


def begin_from_parent(a: "Attempt", model: Any) -> Adapter | None:
    """Give the model's adapter the parent's weights, proven to have arrived; None: nothing to do.

    Raises `BadInput` where the parent was never trained, has other settings, or does not fit.
    """
    source = wanted(a)
    if source is None:
        return None
    adapter = adapters.open_adapter(parent_folder(source, a.folder))
    warning = adapters.ignored_warning(adapter)
    a.outcome.warnings += [warning] if warning else []
    try:
        _require_same_settings(adapter, model.peft_config["default"])
        adapters.require([adapters.finite(adapter), adapters.trained(adapter)])
        adapters.fill(model, adapter)
    except BadInput as error:
        raise BadInput(f"resume_from: cannot go on from {source}: {error}") from None
    print(f"goes on from {adapter.folder}: {len(adapter.tensors)} tensors in place", flush=True)
    return adapter


def _require_same_settings(adapter: Adapter, own: Any) -> None:
    def of(config: Any) -> dict[str, Any]:
        found = {
            field.name: getattr(config, field.name, None)
            for field in dataclasses.fields(config)
            if field.name not in _FREE
        }
        # PEFT holds them as sets, a file as lists
        return found | {key: _words(found[key]) for key in ("target_modules", "target_parameters")}

    theirs, ours = of(adapter.config), of(own)
    wrong = [
        f"{key}: the parent has {theirs[key]}, this run {ours[key]}"
        for key in ours
        if (theirs[key] or None) != (ours[key] or None)
    ]
    begun = adapter.config.init_lora_weights
    if begun not in (True, False, "gaussian"):  # such an adapter belongs to a base changed with it
        wrong.append(f"init_lora_weights: the parent has {begun}, which changes the base")
    if wrong:
        raise BadInput("; ".join(wrong))


def _words(targets: Any) -> Any:
    return sorted(targets) if isinstance(targets, list | set | tuple) else targets
