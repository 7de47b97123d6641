"""Files from the Hub: what is here already is kept, what was begun goes on, and a stall is seen.

huggingface_hub resumes a file where its `.incomplete` part ends. The download runs in a thread of
its own: the main thread watches the bytes on disk, and can be stopped.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.outcome import BadInput

REPORT_SECONDS = 30.0
STALL_SECONDS = 300.0  # assumption: a mirror that sends nothing for so long sends nothing any more
LOOK_SECONDS = 1.0

# What a model or an adapter is loaded from, without the pickled copies many repositories keep.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")

Say = Callable[[str], None]


class DownloadStalled(Exception):
    """No byte arrived for too long."""


def from_hub(
    repository: str,
    revision: str | None,
    key: str,
    say: Say = print,
    stall_seconds: float = STALL_SECONDS,
    report_seconds: float = REPORT_SECONDS,
) -> Path:
    """The absolute folder of a repository's files, downloaded where they are not in the cache.

    Its name is the commit. Raises `BadInput`, naming the spec's key, for a repository, revision or
    access that there is not, and `DownloadStalled`.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"

    def download() -> str:
        return snapshot_download(
            repository, revision=revision, allow_patterns=list(MODEL_FILES), max_workers=4
        )

    try:
        return Path(watched(download, place, say, stall_seconds, report_seconds))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        said = str(error).strip().splitlines()[0]
        raise BadInput(f"{key}: {repository}@{revision or 'main'}: {said}") from None


def watched(
    download: Callable[[], Any],
    place: Path,
    say: Say,
    stall_seconds: float,
    report_seconds: float,
) -> Any:
    """What `download` returns or raises, while the bytes below `place` are watched.

    A download that has stalled is left behind in its thread; it ends with the process.
    """
    answer: dict[str, Any] = {}

    def work() -> None:
        try:
            answer["value"] = download()
        except BaseException as error:  # it is the main thread's to raise
            answer["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    grown_at = said_at = time.monotonic()
    before = bytes_below(place)
    thread.start()
    while thread.is_alive():
        thread.join(min(LOOK_SECONDS, stall_seconds / 4))
        moment, there = time.monotonic(), bytes_below(place)
        if there != before:
            grown_at, before = moment, there
        if moment - grown_at > stall_seconds and thread.is_alive():
            raise DownloadStalled(
                f"DOWNLOAD_STALLED: no byte for {stall_seconds:g} s, {there} bytes in {place}; "
                "run again to go on from there"
            )
        if moment - said_at >= report_seconds:
            said_at = moment
            say(f"downloading: {there} bytes in {place}")
    if "error" in answer:
        raise answer["error"]
    return answer["value"]


def bytes_below(place: Path) -> int:
    """Bytes of all files there, the unfinished ones too; each once, links not counted."""
    total = 0
    for path in place.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except FileNotFoundError:  # moved into place meanwhile
            continue
    return total
