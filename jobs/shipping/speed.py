"""`python -m jobs.shipping.speed REQUEST.json SPEEDS.json MODEL.gguf...`: files side by side.

In llama.cpp's environment. Every file reads the same tokens and writes as many, whatever it has
to say; the files take turns, and the best turn of each counts, since whatever else the machine
does can only slow one down.
"""

import sys
import time
from pathlib import Path

import msgspec

from jobs.shipping.measure import Runner
from jobs.shipping.wire import MeasureRequest, Speed

# Assumptions: enough to outlast a clock's ticks on the smallest model, and minutes on the largest
# that a CPU is asked to run (7 billion parameters write some 5 tokens a second).
PROMPT_TOKENS = 256
WRITTEN_TOKENS = 32
TURNS = 3


def turn(path: Path, prompt: list[int]) -> Speed:
    runner = Runner(path, n_ctx=len(prompt) + WRITTEN_TOKENS)
    runner.read(prompt)  # the first time pages the weights in
    started = time.perf_counter()
    runner.read(prompt)
    read = time.perf_counter()
    for i in range(WRITTEN_TOKENS):
        runner.write(len(prompt) + i)
    written = time.perf_counter()
    return Speed(prompt=len(prompt) / (read - started), generated=WRITTEN_TOKENS / (written - read))


def main(request: str, speeds: str, *files: str) -> None:
    asked = msgspec.json.decode(Path(request).read_bytes(), type=MeasureRequest)
    prompt = [token for one in (*asked.rows, *asked.prompts) for token in one.ids][:PROMPT_TOKENS]
    turns = [[turn(Path(file), prompt) for file in files] for _ in range(TURNS)]
    best = [
        Speed(prompt=max(s.prompt for s in of), generated=max(s.generated for s in of))
        for of in zip(*turns, strict=True)
    ]
    Path(speeds).write_bytes(msgspec.json.encode(best))


if __name__ == "__main__":
    main(*sys.argv[1:])
