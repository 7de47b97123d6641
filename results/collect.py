"""Bring a finished job's files from its working folder home to `<store>/<run_id>/`.

Written aside and then moved: a run's folder is there whole or not at all, and SHA256SUMS, written
last, says that it is. Never copies anything but the names in jobs.layout.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from results.records import read_result
from results.sums import has_line, read_sums, sha256_of, write_sums

FILES = (
    layout.SPEC,
    layout.METRICS,
    layout.RESULT,
    layout.LOG,
    layout.SAMPLES,
    layout.GATES,
    layout.REVIEW,
    layout.LINEAGE,
)
FOLDERS = (layout.ADAPTER, layout.MODEL, layout.BASE, layout.OWN_METRICS, layout.TRACKING)


class CollectError(Exception):
    """What came home is not what was sent."""


def collect(work: Path, store: Path, run_id: str, documents: Mapping[str, bytes]) -> Path:
    """Copy the job's files and write `documents` (name → content) beside them.

    Returns the run's folder. An earlier collection of the same run is replaced as a whole; a
    folder that is not one is never touched. What is home is on the disk. Raises CollectError or
    OSError.
    """
    home = store / run_id
    if home.exists() and not _is_run(home, run_id):
        raise CollectError(f"{home} exists and is not run {run_id}")
    aside = store / f".{run_id}{layout.TEMPORARY_SUFFIX}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name in FILES:
        if (work / name).is_file():
            shutil.copyfile(work / name, aside / name)
    for name in FOLDERS:
        if (work / name).is_dir():
            shutil.copytree(work / name, aside / name, ignore=_leave_out)
            _compare(work / name, aside / name)
    _require_adapter(aside)
    _point_adapter_home(aside, home)
    for name, content in documents.items():
        (aside / name).write_bytes(content)
    sums = {p.as_posix(): sha256_of(aside / p) for p in _files(aside)}
    (aside / layout.SUMS).write_bytes(write_sums(sums))
    for path in (*aside.rglob("*"), aside):
        _to_disk(path)
    replaced = store / f".{run_id}.old"
    shutil.rmtree(replaced, ignore_errors=True)
    if home.exists():
        home.rename(replaced)
    aside.rename(home)
    for folder in (store, store.parent):
        _to_disk(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return home


def _to_disk(path: Path) -> None:
    """A file's content, or a folder's names, outlast a loss of power: who collects removes the only
    other copy."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network's folders cannot be asked
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def is_left_out(path: Path) -> bool:
    """Whether a file of a run's folders stays where it is: pickles, what is half written, and what
    SHA256SUMS cannot name."""
    left_out = (*layout.PICKLES, layout.TEMPORARY_SUFFIX, "__pycache__")
    return any(part.endswith(left_out) or not has_line(part) for part in path.parts)


def _leave_out(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if is_left_out(Path(name))}


def require_free_place(store: Path, run_id: str) -> None:
    """Raises OSError when a run of that id could not be brought to `store`."""
    if (store / run_id).exists():
        raise FileExistsError(f"{store / run_id} exists already; choose another --run-id")
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=store):
        pass


def _is_run(home: Path, run_id: str) -> bool:
    """By its receipt; a partial run, which `launch adopt` has found there, by its spec."""
    for name in (layout.RECEIPT, layout.SPEC):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode((home / name).read_bytes(), type=dict[str, Any])
            return found.get("run_id") == run_id
    return False


def _require_adapter(aside: Path) -> None:
    """What the result names must have come along."""
    result = read_result(aside)
    if result is not None and result.adapter is not None and not (aside / result.adapter).is_dir():
        raise CollectError(f"the result names {result.adapter}/, which is not there")


def _point_adapter_home(aside: Path, home: Path) -> None:
    """A base that the job generated comes along; the adapter must find it there."""
    config = aside / layout.ADAPTER / "adapter_config.json"
    if not (config.is_file() and (aside / layout.BASE).is_dir()):
        return
    content = msgspec.json.decode(config.read_bytes())
    content["base_model_name_or_path"] = os.path.abspath(home / layout.BASE)
    config.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))


def _files(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def _compare(source: Path, copy: Path) -> None:
    for name in _files(copy):
        if sha256_of(source / name) != sha256_of(copy / name):
            raise CollectError(f"{source / name} changed while it was copied")


def verify(folder: Path) -> list[str]:
    """What is wrong with a collected run: missing, changed or unlisted files; empty if whole."""
    sums = folder / layout.SUMS
    if not sums.is_file():
        return [f"{layout.SUMS} is missing: the collection did not finish"]
    listed = read_sums(sums.read_text())
    present = {p.as_posix() for p in _files(folder)} - {layout.SUMS}
    present.discard(layout.EVALUATION)  # made later, beside what was collected
    wrong = [f"{name} is missing" for name in sorted(listed.keys() - present)]
    wrong += [f"{name} is not listed" for name in sorted(present - listed.keys())]
    both = sorted(listed.keys() & present)
    return wrong + [f"{n} has changed" for n in both if sha256_of(folder / n) != listed[n]]
