"""`--resume-from`: which folder is meant, and whether the new job can go on from what lies there.

What can be compared without a tokenizer or weights is compared here, before anything starts; the
job compares the rest (jobs/continuing.py) before it trains.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.spec import (
    JobSpec,
    Lineage,
    ResolvedSpec,
    adapter_shape,
    config_sha256,
    departures,
    kind_of,
    template_sha256,
)
from launcher.errors import BadInput
from launcher.running.reconciling import ledger
from launcher.types import Plan

HUB = "hub:"
_ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"


def settled(job: JobSpec) -> JobSpec:
    """The job with `resume_from` as an absolute folder (hub:ID stays), and `strategy: auto` as the
    parent's. Raises BadInput for what is neither a run that was collected nor a folder."""
    if job.resume_from is None or job.resume_from.startswith(HUB):
        return job
    folder = parent_folder(job.resume_from)
    strategy = job.strategy
    known = _known(folder)
    if strategy == "auto" and "quantisation" in known:
        strategy = "lora" if known["quantisation"] == kind_of(None) else "qlora"
    return msgspec.structs.replace(job, resume_from=str(folder), strategy=strategy)


def parent_folder(value: str) -> Path:
    """The folder that a run's id or a path names, holding an adapter."""
    folder = Path(os.path.abspath(Path(value).expanduser()))
    if "/" not in value and not folder.is_dir():
        run = ledger().find(value)
        if run is None:
            raise BadInput(
                f"--resume-from {value}: no run and no folder of that name; `launch runs` lists "
                "runs, hub:ID is an adapter on the Hub"
            )
        if run.folder is None:
            raise BadInput(
                f"--resume-from {value}: the run is {run.state} and not collected; "
                f"`launch collect {value}` brings it home"
            )
        folder = Path(run.folder)
    adapter = _adapter_in(folder)
    if not (adapter / _ADAPTER_CONFIG).is_file() or not (adapter / _WEIGHTS).is_file():
        raise BadInput(
            f"--resume-from {value}: {adapter} holds no adapter ({_ADAPTER_CONFIG} and {_WEIGHTS});"
            " give a run that trained one, or its folder"
        )
    return folder


def _adapter_in(folder: Path) -> Path:
    below = folder / layout.ADAPTER
    return below if (below / _ADAPTER_CONFIG).is_file() else folder


def require_continuable(made: Plan) -> None:
    """Raises BadInput, naming both values of each, where parent and planned job do not match."""
    spec = next((c.spec for c in made.candidates if c.spec is not None), None)
    if spec is None or spec.resume_from is None or spec.resume_from.startswith(HUB):
        return
    folder = Path(spec.resume_from)
    parent, own = _known(folder), _asked(spec)
    changed = departures(_adapter_in(folder))
    if changed:
        raise BadInput(
            f"--resume-from {spec.resume_from}: not what its {layout.LINEAGE} was written for: "
            f"{'; '.join(changed)}\nbring it anew from where it was trained, or name another"
        )
    wrong = [
        f"{key}: the parent has {parent[key]}, this run {own[key]}"
        for key in own
        if key in parent and parent[key] != own[key]
    ]
    if wrong:
        raise BadInput(
            f"--resume-from {spec.resume_from}: cannot go on from there\n" + "; ".join(wrong) + "\n"
            "give this run the parent's values, or start a new one without --resume-from"
        )


def _asked(spec: ResolvedSpec) -> dict[str, Any]:
    """What the new run will have, by the name that a mismatch is told with."""
    model = spec.model
    found: dict[str, Any] = {
        "task": spec.task,
        "quantisation": kind_of(spec.quantization),
        "regression.dimensions": _dimensions(spec),
        **adapter_shape(spec.lora),
    }
    if not model.id.startswith("/"):
        found["model.id"] = model.id
        if model.revision is not None:
            found["model.revision"] = model.revision
    elif model.init == "random":  # its weights are drawn from the seed, its config is rewritten
        found["seed (of a random base)"] = spec.seed
    else:
        found["base config"] = _config_of(Path(model.id))
    if model.id.startswith("/"):
        found["chat template"] = _short(template_of(Path(model.id)))
    return {key: value for key, value in found.items() if value is not None}


def _known(folder: Path) -> dict[str, Any]:
    """The same of the parent, from the best that lies there: lineage, spec, the adapter's own."""
    adapter = _adapter_in(folder)
    for file in (adapter / layout.LINEAGE, folder / layout.LINEAGE):
        if file.is_file():
            return _of_lineage(_read(file, Lineage))
    if (folder / layout.SPEC).is_file():
        return _asked(_read(folder / layout.SPEC, ResolvedSpec))
    return _of_settings(_read(adapter / _ADAPTER_CONFIG, dict[str, Any]))


def _of_lineage(lineage: Lineage) -> dict[str, Any]:
    base = lineage.base
    found = {
        "task": lineage.task,
        "quantisation": kind_of(lineage.quantization),
        "regression.dimensions": ", ".join(lineage.dimensions) or "none",
        "model.id": None if base.id.startswith("/") else base.id,
        "model.revision": base.revision,
        "seed (of a random base)": base.seed,
        "base config": base.config_sha256[:12],
        "chat template": (base.chat_template_sha256 or "none")[:12],
        **adapter_shape(lineage.lora),
    }
    return {key: value for key, value in found.items() if value is not None}


def _of_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    tasks = {"CAUSAL_LM": "sft", "SEQ_CLS": "regression"}
    targets, base = config.get("target_modules"), config.get("base_model_name_or_path")
    found = {
        "task": tasks.get(str(config.get("task_type"))),
        "lora.r": config.get("r"),
        "lora.alpha": config.get("lora_alpha"),
        "lora.targets": ", ".join(sorted(targets)) if isinstance(targets, list) else None,
        "model.id": base if isinstance(base, str) and not base.startswith(("/", ".")) else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _dimensions(spec: ResolvedSpec) -> str:
    return "none" if spec.regression is None else ", ".join(spec.regression.dimensions)


def _config_of(folder: Path) -> str | None:
    try:
        return config_sha256((folder / "config.json").read_bytes())[:12]
    except (OSError, ValueError):
        return None  # the estimate reads the same file, and says what is wrong with it


def template_of(folder: Path) -> str | None:
    """The chat template of a model's folder, as transformers reads it: chat_template.jinja, else
    tokenizer_config.json's; None where it is neither or not one text."""
    try:
        return (folder / "chat_template.jinja").read_text("utf-8")
    except OSError:
        pass
    try:
        config = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    template = config.get("chat_template") if isinstance(config, dict) else None
    return template if isinstance(template, str) else None


def _short(template: str | None) -> str | None:
    digest = template_sha256(template)
    return None if digest is None else digest[:12]


def _read(file: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"--resume-from: {file} cannot be read: {error}") from None
