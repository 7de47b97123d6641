"""Half a billion parameters in 4.5 GB: the recipe `low-ram` on a machine that has no more.

    .venv/bin/python -m benchmarks.low_ram TRAINING_PYTHON [--rows 12] [--lean true|false]

A random model of Qwen2.5-0.5B's shape, full rows of 256 tokens, run in a memory control group of
4.5 GB where this user may make one (cgroup v1 or v2; else only measured). Prints the peak as the
job measured it, beside the estimate. Ends with 1 when the job was not done or passed 4.5 GB.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobs.spec import Data, Lora, Model, ResolvedSpec, ResolvedTrain
from launcher.estimate.shapes import embedded_config, from_config
from launcher.estimate.vram import memory
from launcher.types import GIB, Device

LIMIT_BYTES = 4_500_000_000
MODEL = "Qwen/Qwen2.5-0.5B"
ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "jobs" / "sample"
# 256 tokens of the sample's tokenizer, with room: its words are about five tokens each.
WORDS = "policy claim refund travel laptop badge leave office parking training " * 8


def spec(folder: Path, lean: bool) -> ResolvedSpec:
    return ResolvedSpec(
        run_id="low-ram",
        model=Model(id=str(folder / "base")),
        data=Data(train="rows.jsonl"),
        strategy="lora",
        dtype="fp32",
        device="cpu",
        quantization=None,
        lora=Lora(r=4, alpha=8),
        train=ResolvedTrain(
            epochs=1.0, learning_rate=2e-5, seq_len=256, effective_batch=2, micro_batch=1,
            packing=False, optimizer="adamw_torch", lean_heap=lean,
        ),
    )  # fmt: skip


@contextlib.contextmanager
def group() -> Iterator[Path | None]:
    """A control group of 4.5 GB, None where none can be made."""
    for root, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        place = Path(root) / f"loralift-{os.getpid()}"
        try:
            place.mkdir()
            (place / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            with contextlib.suppress(OSError):
                place.rmdir()
            continue
        try:
            yield place
        finally:
            place.rmdir()
        return
    yield None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--lean", choices=["true", "false"], default="true")
    options = parser.parse_args()
    config = embedded_config(MODEL) or {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = [options.python, "-P", str(ROOT / "benchmarks" / "train_child.py"), "base", place]
        command += [json.dumps(config), str(SAMPLE / "model")]
        subprocess.run(command, check=True, capture_output=True)
        rows = (json.dumps({"text": f"{i} {WORDS}"}) + "\n" for i in range(options.rows))
        (folder / "rows.jsonl").write_text("".join(rows))
        job = spec(folder, options.lean == "true")
        import msgspec

        (folder / "spec.json").write_bytes(msgspec.json.encode(job))
        with group() as limited, open(folder / "log", "w") as log:
            train = [options.python, "-P", "-m", "jobs.train", "spec.json"]
            if limited is not None:  # join the group, then become the job
                train = ["sh", "-c", f'echo $$ > {limited}/cgroup.procs; exec "$@"', "sh", *train]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            code = subprocess.run(
                train, cwd=folder, env=environment, stdout=log, stderr=log, check=False
            )
        where = "in a control group of 4.5 GB" if limited is not None else "with no limit"
        if code.returncode:
            sys.exit(f"not done {where}: {(folder / 'log').read_text()[-1500:]}")
        result = json.loads((folder / "result.json").read_text())
    ram = Device(kind="cpu", name="CPU", usable_bytes=LIMIT_BYTES, total_bytes=LIMIT_BYTES, cores=2)
    need = memory(from_config(config), job, ram)
    peak = result["peak_memory_bytes"]
    print(
        f"{MODEL} r 4, 256 tokens, batch 1 x 2, lean_heap {options.lean}, {where}: "
        f"{result['steps']} steps, peak {peak / 1e9:.2f} GB ({peak / GIB:.2f} GiB); "
        f"estimated {need.expected_bytes / GIB:.2f} GiB, at most {need.upper_bytes / GIB:.2f}"
    )
    sys.exit(peak > LIMIT_BYTES)


if __name__ == "__main__":
    main()
