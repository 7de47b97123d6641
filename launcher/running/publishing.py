"""`launch publish`: a collected run to the Hub, with its card, once its gates let it."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from jobs import layout
from jobs.spec import ExportResult, Measured, ResolvedSpec, Result
from launcher.checking import hub_access
from launcher.checking.checks import Check
from launcher.errors import BadInput, GateFailed, OutsideFailed
from launcher.running.collecting import export_folder, run_folder
from launcher.types import Plan
from results import hub, publication
from results.card import Card, render
from results.collect import verify
from results.hub import Published
from results.publication import Files, Unpublishable
from results.receipt import Receipt
from results.records import read_result
from results.report.words import gate_line
from results.sums import sha256_of

T = TypeVar("T")


class PublishFlags(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    public: bool = False
    force: bool = False
    licence: str | None = None
    with_export: bool = False


def publish(run: str, repository: str, flags: PublishFlags) -> Published:
    """Publish the run as `repository`, a model's ORG/NAME on the Hub.

    Raises GateFailed for a run that is not good by its own gates, BadInput for one that cannot be
    published and for a token that may not write there, OutsideFailed where the Hub does not answer
    or what is here is not what was collected; everything stays here then.
    """
    _require(hub_access.name(repository))
    home = run_folder(run)  # then the run: a token helps none that cannot be published
    spec = _read(home / layout.SPEC, ResolvedSpec)
    result = read_result(home)
    against = objections(result)
    if against and not flags.force:
        raise GateFailed(
            f"run {spec.run_id} is not published: {'; '.join(against[:2])}\n"
            "train it better, or say --force: its card then says so in its first lines"
        )
    _require_access(repository)
    wrong = verify(home)
    if wrong:
        raise OutsideFailed(f"{home} is not what was collected: {'; '.join(wrong[:3])}")
    try:
        files = _files(home, spec, repository, result, against, flags)
    except Unpublishable as error:
        raise BadInput(str(error)) from None
    message = f"Loralift run {spec.run_id}"
    try:
        return hub.publish(repository, files, token=_token(), public=flags.public, message=message)
    except hub.HubRefused as error:
        raise BadInput(str(error)) from None
    except hub.HubError as error:
        raise OutsideFailed(
            f"{error}\neverything is still in {home}: publish it again later"
        ) from None


def objections(result: Result | None) -> tuple[str, ...]:
    """Why a run should not be published: no result, a failure, each gate that failed."""
    if result is None:
        return ("it left no result",)
    failed = [gate_line(gate) for gate in result.gates if not gate.passed]
    if result.failure is not None:
        failed.insert(0, f"{result.failure.reason}: {result.failure.message}")
    return tuple(failed)


def _require_access(repository: str) -> None:
    """Before anything is hashed or sent: what the token may, and the client."""
    try:
        checks = (hub_access.push(repository), hub_access.client())
    except (OSError, msgspec.MsgspecError) as error:
        raise OutsideFailed(f"the Hub does not answer: {error}\ntry again later") from None
    _require(*checks)


def _require(*checks: Check) -> None:
    for check in checks:
        if check.state == "failed":
            raise BadInput(check.line)


def _token() -> str:
    return os.environ.get("HF_TOKEN", "").strip()


def _files(
    home: Path,
    spec: ResolvedSpec,
    repository: str,
    result: Result | None,
    against: tuple[str, ...],
    flags: PublishFlags,
) -> Files:
    """Everything that is published, looked through, the card and the checksums in it."""
    lineage = publication.require_lineage(home, spec)
    files = publication.gather(home, spec, lineage)
    export = _export(home, spec) if flags.with_export else None
    measured: tuple[Measured, ...] = ()
    places = tuple(publication.places(home, spec))
    if export is not None:
        measured = export.files
        files |= publication.exported(export_folder(home), export.merged, measured)
    card = Card(
        repository=repository,
        spec=spec,
        lineage=lineage,
        result=result or Result(run_id=spec.run_id, status="error"),
        receipt=_read(home / layout.RECEIPT, Receipt),
        rows=_rows(home),
        licence=flags.licence,
        objections=against,
        merged=export is not None and export.merged is not None,
        files=measured,
        places=places,
    )
    files = publication.sealed({**files, publication.CARD: render(card).encode()})
    publication.require_clean(files, places)
    return files


def _export(home: Path, spec: ResolvedSpec) -> ExportResult:
    folder = export_folder(home)
    if not (folder / layout.EXPORT_RESULT).is_file():
        raise BadInput(
            f"--with-export: {folder} has no export; `launch export {home.name} --to …` makes it"
        )
    found = _read(folder / layout.EXPORT_RESULT, ExportResult)
    lineage = sha256_of(home / layout.LINEAGE)
    if found.lineage_sha256 and found.lineage_sha256 != lineage:
        raise BadInput(
            f"--with-export: the export in {folder} was made of other weights than the run has "
            "now; `launch export` it again"
        )
    if found.run_id != spec.run_id or found.failure is not None:
        why = "failed" if found.failure is not None else f"is of run {found.run_id}"
        raise BadInput(f"--with-export: the export in {folder} {why}; `launch export` it again")
    return found


def _rows(home: Path) -> dict[str, int]:
    data = _read(home / layout.PLAN, Plan).data
    return {
        "train": data.train_rows,
        "validation": data.validation_rows,
        "test": data.test_rows,
        "replay": data.replay_rows,
    }


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: not what a collected run has there: {error}") from None
