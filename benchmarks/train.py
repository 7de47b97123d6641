"""Our training job against a plain TRL script, and each option we turn on by default against off.

    .venv/bin/python -m benchmarks.train TRAINING_PYTHON [--model SHAPE] [--rounds 2] [--device cpu]

Every variant trains a random model of a real shape on the same chats of mixed lengths, in a process
of its own, for the same rows. Rounds go through all variants in turn, so that a busy neighbour
meets each of them; figures are medians. tokens/s counts tokens that are no padding over the time in
training; tokens per CPU second is what a shared machine can be believed on.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs.spec import ResolvedSpec
from launcher.estimate.shapes import embedded_config

CHILD = Path(__file__).with_name("train_child.py")
SAMPLE = Path(__file__).parents[1] / "jobs" / "sample"
LORA = {"r": 16, "alpha": 32, "dropout": 0.05}
OURS = {
    "epochs": 1,
    "learning_rate": 2e-4,
    "seq_len": 512,
    "effective_batch": 8,
    "micro_batch": 2,
    "checkpoint_every_steps": 1000,
}
# What differs from the job as it is by default, by name; the rest of the spec is the same.
VARIANTS: dict[str, dict[str, object]] = {
    "ours": {},
    "without packing": {"packing": False},
    "without checkpointing": {"activation_checkpointing": False},
    "loss on all tokens": {"assistant_only_loss": False},
    "plain AdamW": {"optimizer": "adamw_torch"},
    "fused AdamW": {"optimizer": "adamw_torch_fused"},
}


def chats(path: Path, count: int) -> None:
    """Chats whose answers hold 1 to 12 of the sample's, so that lengths differ as they do."""
    draw = random.Random(3)
    answers = [json.loads(line) for line in (SAMPLE / "train.jsonl").open()]
    with path.open("w") as out:
        for _ in range(count):
            parts = draw.sample(answers, draw.randint(1, 12))
            question = parts[0]["messages"][0]["content"]
            answer = " ".join(part["messages"][-1]["content"] for part in parts)
            row = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            out.write(json.dumps({"messages": row}) + "\n")


def spec(folder: Path, options: argparse.Namespace, changes: dict[str, object]) -> None:
    value = {
        "run_id": "benchmark",
        "model": {"id": str(folder.parent / "base")},
        "data": {
            "train": str(folder.parent / "rows.jsonl"),
            "validation": str(folder.parent / "few.jsonl"),
        },
        "strategy": options.strategy,
        "quantization": {"kind": "nf4", "double": True} if options.strategy == "qlora" else None,
        "dtype": options.dtype,
        "device": options.device,
        "lora": LORA,
        "train": OURS | changes,
        "eval": {"generate": False, "compare_base": False},
    }
    content = json.dumps(value)
    import msgspec

    msgspec.json.decode(content, type=ResolvedSpec)  # a wrong variant is told here
    (folder / "spec.json").write_text(content)


def run(command: list[str], folder: Path) -> dict[str, float]:
    """What one variant's process printed on its last line."""
    environment = os.environ | {"PYTHONPATH": str(CHILD.parents[1])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout[-1500:] + done.stderr[-1500:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, options: argparse.Namespace, shared: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=shared) as place:
        folder = Path(place)
        if name.startswith("TRL"):
            settings = {"lora": LORA, "ours": OURS, "device": options.device,
                        "dtype": "bf16" if name == "TRL as it comes" else options.dtype,
                        "strategy": options.strategy}  # fmt: skip
            return run(
                [options.python, "-P", str(CHILD), "trl", str(shared), json.dumps(settings)], folder
            )
        spec(folder, options, VARIANTS[name])
        return run([options.python, "-P", str(CHILD), "ours", str(folder)], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--strategy", default="lora", choices=["lora", "qlora"])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    plain = ["TRL as it comes", "TRL in fp32"] if options.device == "cpu" else ["TRL as it comes"]
    names = [*plain, *VARIANTS]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        shared = Path(place)
        chats(shared / "rows.jsonl", options.rows)
        chats(shared / "few.jsonl", 2)
        config = json.dumps(embedded_config(options.model))
        run(
            [options.python, "-P", str(CHILD), "base", str(shared), config, str(SAMPLE / "model")],
            shared,
        )
        for _ in range(options.rounds):
            for name in names:
                found[name].append(measure(name, options, shared))
                rate = found[name][-1]["tokens_per_cpu_second"]
                print(f"{name}: {rate:.1f} tokens per CPU second", file=sys.stderr, flush=True)
    head = f"{'':24}{'tokens/s':>10}{'per CPU s':>11}{'to ours':>9}{'peak GiB':>10}{'to ours':>9}"
    print(head)
    middle = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in found.items()
    }
    ours = middle["ours"]
    for name, row in middle.items():
        print(
            f"{name:24}{row['tokens_per_second']:>10.1f}{row['tokens_per_cpu_second']:>11.1f}"
            f"{row['tokens_per_cpu_second'] / ours['tokens_per_cpu_second']:>9.2f}"
            f"{row['peak_bytes'] / 2**30:>10.2f}{row['peak_bytes'] / ours['peak_bytes']:>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
