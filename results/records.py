"""Reading what a job writes while it is still writing it."""

import os
from pathlib import Path

import msgspec

from jobs.spec import Record


class Tail:
    """Whole lines of a file that grows; read again from the start when it was cut shorter."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[bytes]:
        """The lines since the last call, without the one still being written."""
        try:
            with open(self._path, "rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if not whole:
            return []
        self._offset += len(whole) + 1
        return whole.split(b"\n")


def records(metrics: Path) -> list[Record]:
    """All records of a metrics.jsonl so far."""
    decode = msgspec.json.Decoder(Record).decode
    return [decode(line) for line in Tail(metrics).new() if line]
