"""`python -m results.sync --store URL --run FOLDER`: a run goes to its store while it is made.

Runs beside the job, on the job's machine and in its environment. Finished files go up as they
change, checkpoints when they are whole; when the job's result is there and all is up, SHA256SUMS
follows, and the sync ends. A job that ended early leaves the run open, to be gone on with.
On SIGTERM there is a last pass. A store that is down never stops the job: what it misses is sent
when it is back. `--restore` is the way back, before the job starts.

Exit codes: 0 all is up (or restored), 1 not all is up, or the run is not ours, 2 bad input.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from jobs import layout
from results import collect
from results.records import is_at_work, read_result
from results.restore import restore
from results.stored_run import Refused, Say, StoredRun, finished
from results.stores import StoreError, Unseen, open_store
from results.sums import sha256_of

INTERVAL_SECONDS = 30.0  # assumption: a preempted machine may lose so much of what it measured
LINGER_SECONDS = 600.0  # assumption: a store that is down longer is not worth a machine's hire
LOOK_SECONDS = 1.0  # how soon the end of the job is seen

_SNAPSHOT = f".sync{layout.TEMPORARY_SUFFIX}"


class Sync:
    """Brings a working folder's run to its store, one pass after the other."""

    def __init__(self, run: StoredRun, folder: Path, say: Say) -> None:
        self._run = run
        self._folder = folder
        self._say = say
        self._begun = False
        self.complete = False  # the store has all of this very run
        self._sent: dict[str, tuple[int, ...]] = {}  # name → what its file looked like
        self._sums: dict[str, str] = {}
        self._checkpoints: dict[str, str] = {}  # name → SHA-256 of its COMPLETE
        self._mirrored: list[str] = []  # the checkpoints beside which the store has no others

    def once(self, over: bool) -> None:
        """A pass: all that is finished goes up. `over`: the job has ended, and all is finished.

        Raises Refused when the run is another's or finished; StoreError, OSError: try again.
        """
        if not self._begun:
            self._begin()
        if self.complete:
            return
        self._run.require_claim(self._folder)
        for name in names_of(self._folder):
            with contextlib.suppress(FileNotFoundError):  # the job replaces a folder at times
                self._send(name, over)
        if not (over and _succeeded(self._folder)):  # then nothing goes on from them
            self._send_checkpoints()

    def seal(self) -> None:
        """The last write, of a job that is done: the run is complete. Raises as `once`."""
        self.once(over=True)  # what came since the last pass
        if self.complete:
            return
        names = [name for name in names_of(self._folder) if name not in layout.RESTART]
        kept = {name: self._sums[name] for name in names if name in self._sums}
        self._run.require_claim(self._folder)
        self._run.seal(kept)
        self.complete = True

    def _begin(self) -> None:
        self._run.require_same_job(self._folder)
        sums = self._run.sums()
        if sums is not None:
            if not self._is_this_run(sums):
                raise finished(self._run)
            self._begun = self.complete = True
            return
        self._run.claim(self._folder, take_over=False)
        if not (self._folder / layout.RESULT).exists():
            self._run.remove(layout.RESULT)  # of an attempt before this one
        self._begun = True

    def _is_this_run(self, sums: dict[str, str]) -> bool:
        """Whether a finished run is the one of this folder: what ended it, and all it made."""
        names = [n for n in names_of(self._folder) if n not in (*layout.GROWING, *layout.RESTART)]
        return layout.RESULT in names and all(
            sums.get(name) == sha256_of(self._folder / name) for name in names
        )

    def _send(self, name: str, over: bool) -> None:
        path = self._folder / name
        looks = (*_look(path), over)
        if self._sent.get(name) == looks:
            return
        stored = self._run.put(name, _lines(path, over) if name in layout.GROWING else path)
        self._sent[name], self._sums[name] = looks, stored.sha256 or ""

    def _send_checkpoints(self) -> None:
        """Whole ones, newest first. What the job has removed goes there too, after that."""
        folder = self._folder / layout.CHECKPOINTS
        here = _whole(folder)
        for name in here:
            with contextlib.suppress(FileNotFoundError):
                digest = sha256_of(folder / name / layout.COMPLETE)
                if self._checkpoints.get(name) != digest:
                    with self._snapshot(name) as checkpoint:
                        self._send_checkpoint(name, checkpoint)
                    self._checkpoints[name] = digest
        if here and here[0] in self._checkpoints and here != self._mirrored:
            self._remove_others(here)
            self._mirrored = here

    def _send_checkpoint(self, name: str, checkpoint: Path) -> None:
        complete = (checkpoint / layout.COMPLETE).read_bytes()
        place = f"{layout.CHECKPOINTS}/{name}"
        marker = f"{place}/{layout.COMPLETE}"
        there = self._run.store.find(self._run.key(marker))
        if there is not None and there.sha256 == sha256_of(complete):
            return
        if there is not None:  # of a lost attempt: no longer whole while it is replaced
            self._run.remove(marker)
        for file in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
            inside = file.relative_to(checkpoint).as_posix()
            if inside != layout.COMPLETE:
                self._run.put(f"{place}/{inside}", file)
        self._run.put(marker, complete)
        self._say(f"{name} is up")

    def _remove_others(self, here: list[str]) -> None:
        place = f"{layout.CHECKPOINTS}/"
        gone = [
            name
            for name in self._run.names(place)
            if name.removeprefix(place).partition("/")[0] not in here
        ]
        # without its marker a half-removed one cannot be taken for whole
        for name in sorted(gone, key=lambda name: not name.endswith(f"/{layout.COMPLETE}")):
            self._run.remove(name)

    @contextlib.contextmanager
    def _snapshot(self, name: str) -> Iterator[Path]:
        """Links to the checkpoint's files, copies where there are no links.

        The job may remove it while it is sent. Raises FileNotFoundError where it was faster.
        """
        aside = self._folder / _SNAPSHOT
        try:
            _set_aside(self._folder / layout.CHECKPOINTS / name, aside)
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


class Alive(Unseen):
    """A file that is touched after each part: a sign of life, as the kernel counts what is written
    to files but not what is sent (jobs/processes.py)."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def moved(self, size_bytes: int) -> None:
        with contextlib.suppress(OSError):
            self._file.touch()


def names_of(folder: Path) -> list[str]:
    """The files of a working folder that are worth keeping, checkpoints aside; spec.json first."""
    names = [n for n in (*collect.FILES, *layout.RESTART) if (folder / n).is_file()]
    for top in collect.FOLDERS:
        names += [
            path.relative_to(folder).as_posix()
            for path in sorted((folder / top).rglob("*"))
            if path.is_file() and not collect.is_left_out(path.relative_to(folder))
        ]
    return names


def is_over(folder: Path) -> bool:
    """Whether the job has left its result and is gone: it holds a lock as long as it lives."""
    return (folder / layout.RESULT).is_file() and not is_at_work(folder)


def follow(sync: Sync, folder: Path, interval: float, linger: float, say: Say) -> int:
    """Pass after pass until the job is over and all is up, or SIGTERM; the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    give_up_at = None
    trouble = ""
    while True:
        last, over = stop.is_set(), is_over(folder)
        if over and give_up_at is None:
            give_up_at = time.monotonic() + linger
        try:
            sync.once(over)
            if trouble:
                trouble = ""
                say("the store is back")
            if over or sync.complete:
                return _end(sync, folder, say)
            if last:
                say("stopped; what was finished is up")
                return 0
        except Refused as error:
            say(f"{error}")
            return 1
        except (StoreError, OSError) as error:
            if str(error) != trouble:
                trouble = str(error)
                say(f"{trouble}\nthe job goes on; trying again every {interval:g} s")
            if last or (give_up_at is not None and time.monotonic() > give_up_at):
                say(f"not everything is up; all is in {folder}, and a later sync sends the rest")
                return 1
        _wait(stop, folder, interval, over)


def _end(sync: Sync, folder: Path, say: Say) -> int:
    if sync.complete:
        say("the run is complete already")
    elif not _succeeded(folder):
        say("the job ended early; what it left is up, and the run stays open")
    else:
        sync.seal()
        say("all is up, the run is complete")
    return 0


def _succeeded(folder: Path) -> bool:
    result = read_result(folder)
    return result is not None and result.failure is None


def _wait(stop: threading.Event, folder: Path, interval: float, over: bool) -> None:
    """Until the next pass is due, or something has ended."""
    until = time.monotonic() + interval
    while (left := until - time.monotonic()) > 0:
        if stop.wait(min(left, LOOK_SECONDS)) or (not over and is_over(folder)):
            return


def _whole(folder: Path) -> list[str]:
    return layout.newest_first(p.parent.name for p in folder.glob(f"*/{layout.COMPLETE}"))


def _set_aside(checkpoint: Path, aside: Path) -> None:
    """Raises FileNotFoundError when the job is removing the checkpoint; OSError."""
    for copy in (os.link, shutil.copyfile):
        shutil.rmtree(aside, ignore_errors=True)
        try:
            shutil.copytree(checkpoint, aside, copy_function=copy)
            return
        except shutil.Error as error:  # of one file or more, missing ones too
            (checkpoint / layout.COMPLETE).stat()  # the first that the job removes
            failed = error
    raise failed


def _look(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _lines(path: Path, over: bool) -> bytes:
    """Whole lines; of a job that is over, whatever its last line is."""
    content = path.read_bytes()
    return content if over else content[: content.rfind(b"\n") + 1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m results.sync", description=__doc__)
    parser.add_argument("--store", required=True, help="a folder, or s3://BUCKET/PREFIX")
    parser.add_argument("--run", required=True, type=Path, help="the job's working folder")
    parser.add_argument("--run-id", help="default: the one in its spec.json")
    parser.add_argument("--interval", type=float, default=INTERVAL_SECONDS, help="seconds")
    parser.add_argument(
        "--linger",
        type=float,
        default=LINGER_SECONDS,
        help="seconds to go on \
trying when the job is over and the store is down",
    )
    parser.add_argument(
        "--restore",
        action="store_true",
        help="bring what a restart goes on from, \
and take the run over",
    )
    parser.add_argument("--alive", type=Path, help="a file to touch after each part that is sent")
    given = parser.parse_args(arguments)
    try:
        spec = msgspec.json.decode((given.run / layout.SPEC).read_bytes(), type=dict[str, object])
        run_id = given.run_id or str(spec["run_id"])
        store = open_store(given.store, None if given.alive is None else Alive(given.alive))
    except (OSError, msgspec.DecodeError, KeyError, StoreError) as error:
        _say(f"{error}")
        return 2
    folder = given.run.absolute()
    if not given.restore:
        sync = Sync(StoredRun(store, run_id), folder, _say)
        return follow(sync, folder, given.interval, given.linger, _say)
    try:
        restore(store, run_id, folder, _say)
    except (StoreError, OSError) as error:
        _say(f"{error}")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sync: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
