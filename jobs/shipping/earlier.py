"""What earlier exports into the same folder left there: its result covers all that lies in it.

A file that was shipped stays so, by the gates of its own export, as long as it lies there as it was
measured. A Modelfile stays as long as the file that it names does.
"""

from pathlib import Path

import msgspec

from jobs import layout
from jobs.shipping import steps
from jobs.spec import ExportResult, Measured


def set_aside(folder: Path) -> ExportResult | None:
    """What the last export said, out of the way of what this one will say; also when that one was
    killed before it said anything. None where there is none."""
    aside = folder / layout.EXPORT_WORK / layout.EXPORT_RESULT
    last = folder / layout.EXPORT_RESULT
    if last.exists():
        aside.parent.mkdir(exist_ok=True)
        last.replace(aside)
    try:
        return msgspec.json.decode(aside.read_bytes(), type=ExportResult)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def together(earlier: ExportResult | None, now: ExportResult, folder: Path) -> ExportResult:
    """This export's result with what holds of the earlier ones. Removes a Modelfile whose file has
    been rejected or replaced."""
    earlier = earlier or ExportResult()
    before = {file.file: file.sha256 for file in earlier.files if file.shipped}
    # what failed early knows no lineage, and has touched nothing
    same = now.lineage_sha256 in ("", earlier.lineage_sha256)
    if now.run_id not in ("", earlier.run_id) or not same:
        left = [f.file for f in earlier.files if f.shipped and _lies(f, folder)]
        said = f"{', '.join(left)}: of an earlier export of other weights, and not of this result"
        now = msgspec.structs.replace(now, warnings=(*now.warnings, *([said] if left else [])))
        earlier = ExportResult(run_id=now.run_id, lineage_sha256=now.lineage_sha256)
    made = {Path(f.file).name.removesuffix(layout.REJECTED_SUFFIX) for f in now.files if f.asked}
    kept = [f for f in earlier.files if f.shipped and f.file not in made and _lies(f, folder)]
    # a file that was only made on the way is told once, where it lies for people
    known = {f.sha256 for f in kept}
    own = [f for f in now.files if f.asked or f.sha256 not in known]
    files = sorted([*own, *kept], key=lambda f: f.quantization != "f16")
    now = msgspec.structs.replace(
        now,
        run_id=now.run_id or earlier.run_id,
        lineage_sha256=now.lineage_sha256 or earlier.lineage_sha256,
        merged=now.merged or (earlier.merged if (folder / layout.MERGED).is_dir() else None),
        files=tuple(files),
    )
    return now if now.modelfile else _with_modelfile(before, earlier.ollama_model, now, folder)


def _lies(measured: Measured, folder: Path) -> bool:
    file = folder / measured.file
    return file.is_file() and steps.sha256(file) == measured.sha256


def _with_modelfile(
    before: dict[str, str], in_ollama: str | None, now: ExportResult, folder: Path
) -> ExportResult:
    """With the Modelfile of an earlier export where the file that it names is as it was."""
    target = folder / layout.MODELFILE
    if not target.is_file():
        return now
    named = target.read_text().partition("\n")[0].removeprefix("FROM ./")
    after = {file.file: file.sha256 for file in now.files if file.shipped}
    if named in after and after[named] == before.get(named):
        return msgspec.structs.replace(now, modelfile=layout.MODELFILE, ollama_model=in_ollama)
    if named in before or named in after or not (folder / named).is_file():
        target.unlink()
        said = f"{layout.MODELFILE} is removed: {named} is not what it was made for"
        if in_ollama:
            said += f"; Ollama has the model still, as {in_ollama}"
        return msgspec.structs.replace(now, warnings=(*now.warnings, said))
    return now
