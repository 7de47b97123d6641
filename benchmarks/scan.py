"""What reading a job's rows costs a plan: `scan_data`'s CPU seconds and memory, beside json.loads.

    .venv/bin/python -m benchmarks.scan [--rows 46000]

Chats with an answer in JSON, and texts with eight scores, some 2.7 kB a row, the same at every
call. Each file is read by a process of its own, whose peak memory is what the kernel says of it.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from jobs.spec import Data, JobSpec, Model, Regression
from launcher.inputs.scanning import scan_data

DIMENSIONS = tuple(f"score_{number}" for number in range(8))
WORDS = 420  # of a row: 46,000 of them are some 125 MB


def chats(rows: int, drawn: random.Random) -> Iterator[object]:
    for number in range(rows):
        answer = json.dumps({"answer": _text(drawn, WORDS // 2), "citation": f"DOC-{number}"})
        question = f"{number}: {_text(drawn, WORDS // 2)}"
        turns = (("user", question), ("assistant", answer))
        yield {"messages": [{"role": role, "content": content} for role, content in turns]}


def scored(rows: int, drawn: random.Random) -> Iterator[object]:
    for number in range(rows):
        scores = {name: round(drawn.uniform(0, 10), 1) for name in DIMENSIONS}
        yield {"text": f"{number}: {_text(drawn, WORDS)}", "scores": scores}


def _text(drawn: random.Random, words: int) -> str:
    return " ".join(f"{drawn.getrandbits(20):05x}" for _ in range(words))


KINDS = {"chats": chats, "scores": scored}


def measure(kind: str, path: str) -> None:
    job = JobSpec(model=Model(id="a/b"), data=Data(train=path))
    if kind == "scores":
        asked = Regression(dimensions=DIMENSIONS)
        job = msgspec.structs.replace(job, task="regression", regression=asked)
    empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    scan_data(job)
    ours = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)
    plain = time.process_time() - start
    size = Path(path).stat().st_size / 1e6
    print(
        f"{kind}: {size:.0f} MB: {ours:.2f} s of CPU, {ours / plain:.2f} "
        f"times json.loads; {peak:.0f} MiB, {empty:.0f} of them before"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=46_000)
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind, rows in KINDS.items():
            path = Path(folder) / f"{kind}.jsonl"
            with path.open("w") as file:
                for row in rows(args.rows, random.Random(17)):
                    file.write(json.dumps(row) + "\n")
            measuring = [sys.executable, "-m", "benchmarks.scan", "--measure", kind, str(path)]
            subprocess.run(measuring, check=True)


if __name__ == "__main__":
    main()
