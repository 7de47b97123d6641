"""A file of a GiB to a real S3 server and back, in bounded memory."""

import os
import subprocess
from pathlib import Path

from results.stores import Store, sha256_of
from tests.integration.buckets import client_python, server, store, url
from tests.integration.command import ROOT

__all__ = ["client_python", "server", "store", "url"]  # the fixtures

GIB = 1 << 30
MIB = 1 << 20
# Ten parts at once of up to 8 MiB, what the client keeps of each, and an interpreter with boto3.
MOST_BYTES = 256 * MIB


def moved(python: str, verb: str, url: str, path: Path) -> int:
    """The most memory the process had, in bytes."""
    command = [python, "-P", "-m", "benchmarks.stores_child", verb, url, str(path)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return used.ru_maxrss * 1024  # Linux counts it in KiB: getrusage(2)


def test_a_gib_goes_there_and_back_in_bounded_memory(
    store: Store, client_python: str, url: str, tmp_path: Path
) -> None:
    made, brought = tmp_path / "made", tmp_path / "brought"
    with made.open("wb") as file:
        for _ in range(GIB // MIB):
            file.write(os.urandom(MIB))
    up = moved(client_python, "put", f"{url}/made", made)
    there = store.find("made")
    assert there is not None
    assert there.size_bytes == GIB
    down = moved(client_python, "get", f"{url}/made", brought)
    assert sha256_of(brought) == sha256_of(made) == there.sha256
    print(f"1 GiB: at most {up / MIB:.0f} MiB of memory up, {down / MIB:.0f} MiB down")
    assert max(up, down) < MOST_BYTES
