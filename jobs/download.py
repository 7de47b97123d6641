"""Files from the Hub: what is here already is kept, what was begun goes on, and a stall is seen.

huggingface_hub 2.4 keeps whole files, and goes on in the middle of one when a connection breaks;
what is left of a file when its process ends cannot be reused by another, so it is removed. It
downloads in a process of its own (`python -m jobs.download REPOSITORY REVISION`): its threads wait
for a silent server without end, and only a process can be ended. The job watches the bytes on disk
meanwhile, which arrive ten megabytes at a time.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jobs.outcome import BadInput
from jobs.ranks import die_with_parent

REPORT_SECONDS = 30.0
STALL_SECONDS = 300.0  # assumption: a mirror that sends nothing for so long sends nothing any more
LOOK_SECONDS = 0.5

# What a model or an adapter is loaded from, without the pickled copies many repositories keep.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")

UNFINISHED = "*.incomplete"

Say = Callable[[str], None]


class DownloadFailed(Exception):
    """The Hub could not be reached, or not to the end."""


class DownloadStalled(DownloadFailed):
    """No byte arrived for too long."""


def say_at_once(line: str) -> None:
    print(line, flush=True)


def from_hub(
    repository: str,
    revision: str | None,
    key: str,
    say: Say = say_at_once,
    stall_seconds: float = STALL_SECONDS,
    report_seconds: float = REPORT_SECONDS,
) -> Path:
    """The absolute folder of a repository's files, downloaded where they are not in the cache.

    Its name is the commit. Raises `BadInput`, naming the spec's key, for a repository, revision or
    access that there is not, `DownloadStalled`, and `DownloadFailed`.
    """
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    others = set(place.rglob(UNFINISHED))
    command = [sys.executable, "-P", "-m", "jobs.download", repository, revision or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            watch(process, place, say, stall_seconds, report_seconds)
            answer = json.loads(process.communicate()[0].strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise DownloadFailed(f"{key}: {repository}: exit {process.returncode}") from None
        finally:
            process.kill()
            process.wait()
            for left in set(place.rglob(UNFINISHED)) - others:
                left.unlink(missing_ok=True)
    if "bad_input" in answer:
        raise BadInput(f"{key}: {repository}@{revision or 'main'}: {answer['bad_input']}")
    if "error" in answer:
        raise DownloadFailed(f"{key}: {repository}: {answer['error']}")
    return Path(answer["folder"])


def watch(
    process: "subprocess.Popen[str]",
    place: Path,
    say: Say,
    stall_seconds: float,
    report_seconds: float,
) -> None:
    """Until the process ends. Raises `DownloadStalled` when nothing grew below `place`."""
    grown_at = said_at = time.monotonic()
    before = bytes_below(place)
    while True:
        try:
            process.wait(LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            moment, there = time.monotonic(), bytes_below(place)
        if there != before:
            grown_at, before = moment, there
        if moment - grown_at > stall_seconds:
            raise DownloadStalled(
                f"DOWNLOAD_STALLED: no byte for {stall_seconds:g} s, {there} bytes in {place}; "
                "run again: whole files are kept"
            )
        if moment - said_at >= report_seconds:
            said_at = moment
            say(f"downloading: {there} bytes in {place}")


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


def main(repository: str, revision: str) -> None:
    """Download, and print one JSON object: the folder, or why there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(MODEL_FILES)
        )
        answer = {"folder": folder}
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        answer = {"bad_input": str(error).strip().splitlines()[0]}
    except Exception as error:  # of the network, and of whatever serves it
        answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    die_with_parent()
    main(*sys.argv[1:])
