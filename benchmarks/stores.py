"""A store's throughput beside `aws s3 cp`: the same files, the same S3 server, turn by turn.

    .venv/bin/python -m benchmarks.stores [--mib 1024] [--rounds 5]

Whole commands, imports included. The server is another process on the same cores, so that the wall
is of both, the CPU of the client alone. Ours looks up what is there, writes under conditions, keeps
SHA-256 and verifies it on the way back; a run's folder is sealed besides. `aws s3 cp` does none of
it. Ends with 1 where the least wall of ours is longer than theirs.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jobs import layout
from results.sums import sha256_of, write_sums
from tests.integration.buckets import CLIENT, SERVER
from tests.integration.environments import kept_environment
from tests.servers import seaweedfs
from tests.servers.seaweedfs import BUCKET

ROOT = Path(__file__).parents[1]
AWS = "awscli==1.46.3"
ADAPTER_BYTES = 80 << 20  # of rank 16 on all linear layers of a model of 7 billion parameters
SMALL_FILES, SMALL_BYTES = 150, 8 << 10  # reports, answers, figures


@dataclass
class Timed:
    """Seconds of each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, command: list[str], environment: dict[str, str]) -> None:
        before, began = _children_cpu(), time.perf_counter()
        subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        self.wall.append(time.perf_counter() - began)
        self.cpu.append(_children_cpu() - before)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_file(folder: Path, mib: int) -> Path:
    made = folder / "big"
    with made.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    return made


def make_run(folder: Path) -> Path:
    """A collected run: an adapter and many small files."""
    home = folder / "run"
    (home / layout.ADAPTER).mkdir(parents=True)
    (home / layout.ADAPTER / "adapter_model.safetensors").write_bytes(os.urandom(ADAPTER_BYTES))
    for number in range(SMALL_FILES):
        (home / layout.ADAPTER / f"{number}.json").write_bytes(os.urandom(SMALL_BYTES))
    (home / layout.SPEC).write_text("{}")
    names = [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()]
    (home / layout.SUMS).write_bytes(write_sums({n: sha256_of(home / n) for n in names}))
    return home


def rounds(
    count: int, file: Path, run: Path, back: Path, ours: list[str], theirs: list[str]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """What is measured, and the two commands that do it; each turn to a place of its own."""
    for number in range(count):
        there = f"s3://{BUCKET}/{number}"
        _anew(back)
        yield (
            "file up",
            [*ours, "put", f"{there}/ours/big", str(file)],
            [*theirs, str(file), f"{there}/theirs/big"],
        )
        yield (
            "file down",
            [*ours, "get", f"{there}/ours/big", str(back / "ours")],
            [*theirs, f"{there}/theirs/big", str(back / "theirs")],
        )
        _anew(back)
        yield (
            "run up",
            [*ours, "push", f"{there}/ours/run", str(run)],
            [*theirs, "--recursive", str(run), f"{there}/theirs/run"],
        )
        yield (
            "run down",
            [*ours, "fetch", f"{there}/ours/run", str(back / "ours")],
            [*theirs, "--recursive", f"{there}/theirs/run", str(back / "theirs")],
        )


def _anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="of the one large file")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    python = kept_environment(CLIENT)
    aws = Path(kept_environment([AWS])).with_name("aws")
    weed = Path(kept_environment([SERVER])).with_name("weed")
    packages = next(Path(python).parents[1].glob("lib/python3.*/site-packages"))
    sys.path.append(str(packages))  # the server is waited for by boto3
    ours = [python, "-P", "-m", "benchmarks.stores_child"]
    theirs = [str(aws), "s3", "cp", "--only-show-errors"]
    took: dict[str, tuple[Timed, Timed]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, run = make_file(folder, given.mib), make_run(folder)
        with seaweedfs.running(weed, folder / "server") as server:
            environment = {**os.environ, **server.environment, "PYTHONPATH": str(ROOT)}
            turns = rounds(given.rounds, file, run, folder / "back", ours, theirs)
            for number, (what, own, other) in enumerate(turns):
                timed = took.setdefault(what, (Timed(), Timed()))
                pairs = list(zip(timed, (own, other), strict=True))
                for one, command in pairs if number % 8 < 4 else reversed(pairs):
                    one.run(command, environment)
    sys.exit(_told(took, given.rounds))


def _told(took: dict[str, tuple[Timed, Timed]], count: int) -> int:
    print(f"least / median seconds of {count} rounds; ratio: theirs by ours, above 1 we are faster")
    slower = 0
    for what, (own, other) in took.items():
        for kind in ("wall", "cpu"):
            mine, its = getattr(own, kind), getattr(other, kind)
            ratio = min(its) / min(mine)
            medians = statistics.median(its) / statistics.median(mine)
            print(
                f"{what:<10}{kind:<5} ours {min(mine):6.2f} / {statistics.median(mine):6.2f}"
                f"   aws {min(its):6.2f} / {statistics.median(its):6.2f}"
                f"   ratio {ratio:.2f} / {medians:.2f}"
            )
            slower |= kind == "wall" and ratio < 1
    return slower


if __name__ == "__main__":
    main()
