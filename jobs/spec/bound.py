"""Whether what lies in a folder is what its lineage was written for.

A lineage binds every file that was saved with the weights, by SHA-256, the base by sampled hashes
and the plan by SHA-256; the receipt, made after it, binds lineage and plan. Any of them that was
swapped shows here, before one goes on with it, merges, exports or publishes it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.spec.lineage import Lineage, config_sha256
from jobs.spec.weights import weights_sha256

# Beside the weights, and not bound: they are written anew on the way home or to the Hub. What in
# adapter_config.json says what the weights mean (rank, alpha, targets) stands in the lineage too.
_UNBOUND = (layout.LINEAGE, "adapter_config.json", "README.md", ".gitattributes")


def sha256_of(file: Path) -> str:
    """Of the file's content. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def bindable(folder: Path) -> list[Path]:
    """The files of saved weights that a lineage binds."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name not in _UNBOUND and path.suffix not in layout.PICKLES
    )


def departures(weights: Path) -> list[str]:
    """What lies there otherwise than its lineage says, a line each; `weights` is the folder of an
    adapter or a tuned model, alone or in its run's.

    Empty where all is as it was bound, and for what came before lineages did. Raises OSError.
    """
    inside, outside = weights / layout.LINEAGE, weights.parent / layout.LINEAGE
    file = inside if inside.is_file() else outside
    if not file.is_file():
        return []
    try:
        content = file.read_bytes()
        lineage = msgspec.json.decode(content, type=Lineage)
    except msgspec.DecodeError as error:
        return [f"{file.name} cannot be read: {error}"]
    found = list(_files(weights, lineage))
    if outside.is_file():
        runs = outside.read_bytes()
        # A later attempt that ended before it saved anything has bound nothing in the run's.
        later = runs != content and not _binds(runs)
        if runs != content and not later:
            found.append(f"{weights.name}/{layout.LINEAGE} is another than the run's")
        found += _base(weights.parent / layout.BASE, lineage)
        digest = "" if later else hashlib.sha256(content).hexdigest()
        found += _account(weights.parent, lineage, digest)
    return found


def _binds(content: bytes) -> bool:
    """Whether a lineage names files; one that cannot be read is none of the job's."""
    try:
        return bool(msgspec.json.decode(content, type=Lineage).files)
    except msgspec.DecodeError:
        return True


def _files(weights: Path, lineage: Lineage) -> Iterator[str]:
    for name, digest in lineage.files.items():
        if not (weights / name).is_file():
            yield f"{name} is gone"
        elif sha256_of(weights / name) != digest:
            yield f"{name} has changed"


def _base(folder: Path, lineage: Lineage) -> Iterator[str]:
    """Of a base that was generated, and is kept with the run."""
    if not folder.is_dir():
        return
    try:
        config = config_sha256((folder / "config.json").read_bytes())
        same = (config, weights_sha256(folder)) == (
            lineage.base.config_sha256,
            lineage.base.weights_sha256,
        )
    except ValueError as error:
        yield str(error)
        return
    if not same:
        yield f"{folder.name}/ is another base"


def _account(run: Path, lineage: Lineage, lineage_sha256: str) -> Iterator[str]:
    """Of plan and receipt, where they are there: they come when the run is collected."""
    plan, receipt = run / layout.PLAN, run / layout.RECEIPT
    planned = lineage.provenance.plan_sha256 if lineage.provenance is not None else None
    if planned is not None and plan.is_file() and sha256_of(plan) != planned:
        yield f"{layout.PLAN} is another"
    if not receipt.is_file():
        return
    try:
        said = msgspec.json.decode(receipt.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        yield f"{layout.RECEIPT} cannot be read: {error}"
        return
    bound = {"run_id": lineage.run_id, "lineage_sha256": lineage_sha256, "plan_sha256": planned}
    known = {key: value for key, value in bound.items() if value and said.get(key)}
    if any(said[key] != value for key, value in known.items()):
        yield f"{layout.RECEIPT} is another run's"
