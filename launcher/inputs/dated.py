"""Data files that are named by day: `rows-{date}.jsonl` means today's."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobs.spec import Data
from launcher.errors import BadInput
from launcher.types import DATA_FILES, Setting

MARK = "{date}"
_DAY = r"(\d{4}-\d{2}-\d{2})"


def todays(data: Data, sources: Mapping[str, str], today: str) -> tuple[Data, list[Setting]]:
    """The files with today's ISO date for each mark, every one said as a setting.

    `sources` says who set which key. Raises BadInput where today's file is missing, naming the
    newest that there is.
    """
    settings = []
    for name in DATA_FILES:
        path = getattr(data, name)
        if path is None or MARK not in path:
            continue
        key = f"data.{name}"
        source = sources.get(key, "flags")
        found = path.replace(MARK, today)
        if not Path(found).exists():
            raise BadInput(f"{source}: {key}: no file {found}{_newest(path)}")
        data = msgspec.structs.replace(data, **{name: found})
        settings.append(Setting(key=key, value=found, source=source, instead_of=path))
    return data, settings


def _newest(path: str) -> str:
    import glob

    first, *others = path.split(MARK)
    # The first mark is a day, each further one the same day again.
    named = re.compile(re.escape(first) + _DAY + r"\1".join(re.escape(part) for part in others))
    files = glob.glob("*".join(glob.escape(part) for part in (first, *others)))
    days = {match[1]: file for file in files if (match := named.fullmatch(file)) is not None}
    if not days:
        return f"; none for another day matches {path} either"
    return f"; the newest that matches is {days[max(days)]}: name it, or write today's first"
