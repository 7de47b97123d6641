"""Peak resident memory of real training steps on CPU, beside our estimate.

    OMP_NUM_THREADS=1 python -m benchmarks.cpu_memory TRAINING_PYTHON [CASE …]

Each case writes a random model and trains it for two steps with TRL's own trainer and loss, each in
a child process of the training interpreter, so that the peak is that of the training alone.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs.spec import Data, Lora, Model, Quantization, ResolvedSpec, ResolvedTrain
from launcher.estimate.shapes import embedded_config, from_config
from launcher.estimate.vram import memory
from launcher.types import GIB, Device

CASES = (  # model, strategy, dtype, r, micro-batch, sequence length, checkpointing
    ("Qwen/Qwen2.5-0.5B", "lora", "fp32", 4, 1, 256, True),
    ("Qwen/Qwen2.5-0.5B", "qlora", "fp32", 4, 1, 256, True),
    ("Qwen/Qwen2.5-0.5B", "lora", "fp32", 16, 1, 512, False),
    ("HuggingFaceTB/SmolLM2-135M", "lora", "fp32", 16, 4, 512, True),
    ("HuggingFaceTB/SmolLM2-135M", "qlora", "fp32", 16, 1, 512, True),
)
CHILD = Path(__file__).with_name("cpu_memory_child.py")


def spec_of(case: tuple[str, str, str, int, int, int, bool]) -> ResolvedSpec:
    model_id, strategy, dtype, r, micro_batch, seq_len, checkpointing = case
    return ResolvedSpec(
        run_id="measured",
        model=Model(id=model_id, init="random"),
        data=Data(train="random"),
        strategy="qlora" if strategy == "qlora" else "lora",
        dtype="bf16" if dtype == "bf16" else "fp32",
        device="cpu",
        quantization=Quantization() if strategy == "qlora" else None,
        lora=Lora(r=r),
        train=ResolvedTrain(
            seq_len=seq_len,
            micro_batch=micro_batch,
            activation_checkpointing=checkpointing,
            optimizer="adamw_torch",
            packing=False,
        ),
    )


def measure(python: str, spec: ResolvedSpec) -> tuple[int, int]:
    """Peak resident bytes of two training steps in a child process, and of its loading alone."""
    case = {
        "config": embedded_config(spec.model.id),
        "strategy": spec.strategy,
        "dtype": spec.dtype,
        "r": spec.lora.r,
        "micro_batch": spec.train.micro_batch,
        "seq_len": spec.train.seq_len,
        "checkpointing": spec.train.activation_checkpointing,
    }
    with tempfile.TemporaryDirectory() as folder:
        for action in ("write", "train"):
            command = [python, str(CHILD), action, folder, json.dumps(case)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
    said = json.loads(done.stdout.splitlines()[-1])
    return said["peak_bytes"], said["loading_bytes"]


def main() -> None:
    python, *chosen = sys.argv[1:]
    ram = Device(kind="cpu", name="CPU", usable_bytes=24 * GIB, total_bytes=24 * GIB, cores=1)
    for number in map(int, chosen or range(len(CASES))):
        spec = spec_of(CASES[number])
        shape = from_config(embedded_config(spec.model.id) or {})
        ours = memory(shape, spec, ram)
        measured, loading = measure(python, spec)
        print(
            f"{CASES[number]}: expected {ours.expected_bytes / GIB:.2f}"
            f"  upper {ours.upper_bytes / GIB:.2f}  measured {measured / GIB:.2f} GiB"
            f" (loading {loading / GIB:.2f})"
            f"  {measured / ours.expected_bytes - 1:+.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
