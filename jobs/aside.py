"""Files that others read while they are written. Standard library only, Python 3.8 on."""

from __future__ import annotations

import os
from pathlib import Path

from jobs import layout


def write_aside(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader sees the old or the new, never a half.

    It is on disk when this returns. Raises OSError.
    """
    aside = path.with_name(path.name + layout.TEMPORARY_SUFFIX)
    with aside.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)
