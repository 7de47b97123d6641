"""What a restarted job goes on from, out of a store into its new working folder."""

import json
import shutil
from pathlib import Path

from jobs import layout
from results.records import read_result
from results.stored_run import (
    Say,
    StoredRun,
    checkpoints,
    fetch,
    read_complete,
    require_inside,
)
from results.stores import Damaged, Store, Taken

# The job cuts metrics.jsonl back to its checkpoint.
FILES = (*layout.RESTART, layout.METRICS)


def restore(store: Store, run_id: str, folder: Path, say: Say) -> None:
    """Make this folder the run's: the last whole checkpoint and what a restart reuses.

    What the folder has already is kept; the log goes on. The answer of an ended attempt goes, here
    and in the store, as it would be taken for the next one's. A finished run is brought whole, so
    that the job finds nothing to do. Raises StoreError; Refused when the store holds another job
    under this id.
    """
    run = StoredRun(store, run_id)
    run.require_same_job(folder)
    if run.sums() is not None:
        fetch(store, run_id, folder, say)
        say("the run is finished: all of it is here")
        return
    run.claim(folder, take_over=True)
    run.remove(layout.RESULT)
    result = read_result(folder)
    if result is not None and result.failure is not None:
        (folder / layout.RESULT).unlink()
    there = run.names()
    for name in FILES:
        if name in there and not (folder / name).exists():
            store.get(run.key(name), folder / name)
    _restore_log(run, folder / layout.LOG)
    if any((folder / layout.CHECKPOINTS).glob(f"*/{layout.COMPLETE}")):
        say("this folder has checkpoints of its own, which stay")
        return
    _restore_checkpoint(run, folder / layout.CHECKPOINTS, say)


def _restore_log(run: StoredRun, path: Path) -> None:
    """What earlier attempts printed, before what set-up has printed here.

    In place: `tee -a` holds the file open, and goes on at its end.
    """
    found = run.store.read(run.key(layout.LOG))
    if found is None:
        return
    earlier = found[0]
    path.touch()
    with path.open("r+b") as log:
        own = log.read()
        if not own.startswith(earlier):
            log.seek(0)
            log.write(earlier + own)


def _restore_checkpoint(run: StoredRun, target: Path, say: Say) -> None:
    whole = checkpoints(run)
    for name in whole:
        try:
            _bring(run, name, target)
        except (Damaged, Taken) as error:
            say(f"{name} cannot be used: {error}")
            continue
        say(f"restored {name}")
        return
    say("no checkpoint is whole: the job begins anew" if whole else "no checkpoint yet")


def _bring(run: StoredRun, name: str, target: Path) -> None:
    """A checkpoint, and before it the one it names as the best so far, which the job returns to."""
    if (target / name).is_dir():
        return
    aside = target / (name + layout.TEMPORARY_SUFFIX)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _bring_files(run, name, aside)
        best = _best_step(aside)
        if best is not None and best < (layout.step_of(name) or 0):
            _bring(run, f"{layout.CHECKPOINT_PREFIX}{best}", target)
        aside.rename(target / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _bring_files(run: StoredRun, name: str, aside: Path) -> None:
    """All that COMPLETE lists, each file verified. Raises Damaged."""
    inside = f"{layout.CHECKPOINTS}/{name}"
    key = run.key(f"{inside}/{layout.COMPLETE}")
    found = run.store.read(key)
    if found is None:
        raise Damaged(f"{run.url}/{inside} is not whole")
    complete = read_complete(found[0], f"{run.url}/{inside}/{layout.COMPLETE}")
    if complete.step != layout.step_of(name):
        raise Damaged(f"{run.url}/{inside}: {layout.COMPLETE} is of step {complete.step}")
    for file, listed in complete.files.items():
        run.store.get(run.key(f"{inside}/{file}"), aside / require_inside(file), listed.sha256)
    (aside / layout.COMPLETE).write_bytes(found[0])


def _best_step(checkpoint: Path) -> int | None:
    """The best step so far, in a checkpoint of a job that looks for one."""
    try:  # not msgspec: transformers writes NaN
        state = json.loads((checkpoint / layout.TRAINER_STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    best = state.get("best_global_step")
    return best if isinstance(best, int) else None
