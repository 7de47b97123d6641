"""A step is done once: what it made is kept with the hash of what it was made from.

Everything is made aside and then moved, so that a crash leaves nothing half that looks whole; a
step whose inputs are the same and whose product is still what was made is not done again.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from jobs import layout
from jobs.aside import write_aside


class _Made(msgspec.Struct, frozen=True):
    inputs: dict[str, str]
    sha256: str


def once(target: Path, inputs: Mapping[str, str], make: Callable[[Path], None]) -> str:
    """Have `make` fill a path that becomes `target`, a file or a folder; returns its SHA-256.

    `inputs` names all that the product depends on.
    """
    record = target.with_name(target.name + layout.MADE_SUFFIX)
    if target.exists() and record.is_file():
        made = msgspec.json.decode(record.read_bytes(), type=_Made)
        if made.inputs == inputs and made.sha256 == sha256(target):
            return made.sha256
    for stale in target.parent.glob(f"{target.name}.*{layout.TEMPORARY_SUFFIX}"):
        remove(stale)
    # A name of this process's own: when one was killed, a program it had started may still write.
    aside = target.with_name(f"{target.name}.{os.getpid()}{layout.TEMPORARY_SUFFIX}")
    make(aside)
    digest = sha256(aside)
    record.unlink(missing_ok=True)
    remove(target)
    aside.rename(target)
    write_aside(record, msgspec.json.encode(_Made(dict(inputs), digest)))
    return digest


def sha256(path: Path) -> str:
    """Of a file's content; of a folder, of its files' names and contents."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    lines = "".join(f"{sha256(path / name)}  {name}\n" for name in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def ship(made: Path, target: Path) -> None:
    """The same file or folder under another name, in one step; linked where the disk can."""
    if target.is_file() and target.samefile(made):
        return  # a rename of one link over another does nothing, and would leave both
    aside = target.with_name(target.name + layout.TEMPORARY_SUFFIX)
    remove(aside)
    if made.is_dir():
        shutil.copytree(made, aside, copy_function=_link)
    else:
        _link(made, aside)
    if target.is_dir():
        shutil.rmtree(target)
    aside.replace(target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
