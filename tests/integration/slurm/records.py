"""Slurm's own record of which job had which node."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple


class Held(NamedTuple):
    """A job that had a node."""

    job: int
    name: str  # SkyPilot's name of its cluster, with a suffix
    node: str
    state: str
    start: datetime
    end: datetime | None  # None: it has the node still


def read(completed: Iterable[str], known: Iterable[str]) -> list[Held]:
    """From the lines of jobcomp/filetxt and of `scontrol show job --oneliner`, by start."""
    running = (_fields(line) for line in known if line.startswith("JobId="))
    ended = [_fields(line) for line in completed]
    over = {(fields["JobId"], fields["StartTime"]) for fields in ended}  # it may be requeued
    found = [
        Held(
            int(fields["JobId"]), fields["Name"], fields["NodeList"], fields["JobState"],
            _time(fields["StartTime"]), _time(fields["EndTime"]),
        )
        for fields in ended
    ] + [
        Held(
            int(fields["JobId"]), fields["JobName"], fields["NodeList"], fields["JobState"],
            _time(fields["StartTime"]), None,
        )
        for fields in running
        if (fields["JobId"], fields["StartTime"]) not in over and fields["JobState"] != "PENDING"
    ]  # fmt: skip
    return sorted((h for h in found if h.node != "(null)"), key=lambda held: held.start)


def _fields(line: str) -> dict[str, str]:
    """Slurm's `Name=value` pairs; a value may hold blanks."""
    return dict(re.findall(r"(\w+)=(.*?)(?= \w+=|\s*$)", line))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
