"""A student of a pretrained model on real prose, against the mean predictor and the linear probe.

    .venv/bin/python -m benchmarks.student TRAINING_PYTHON MODEL_FOLDER [--rows N] [--epochs N]

Trains on benchmarks/passages.py's verses and their eight computed scores, once with a fitted and
once with a random head, and prints each epoch's validation error and the test error by dimension.
Ends with 1 unless the fitted student's test error is below 0.6 of the mean predictor's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.passages import DIMENSIONS, rows

BAR = 0.6
ROOT = Path(__file__).parents[1]


def spec(options: argparse.Namespace, head: str) -> dict[str, object]:
    return {
        "run_id": f"student-{head}",
        "task": "regression",
        "regression": {"dimensions": DIMENSIONS, "head": head},
        "model": {"id": str(Path(options.model).resolve())},
        "data": {"train": "rows.jsonl"},
        "strategy": options.strategy,
        "quantization": {"kind": "nf4", "double": True} if options.strategy == "qlora" else None,
        "dtype": "fp32",
        "device": "cpu",
        "lora": {"r": 16, "alpha": 32, "dropout": 0.0},
        "train": {
            "epochs": options.epochs,
            "learning_rate": options.rate,
            "schedule": "linear",
            "seq_len": 96,
            "effective_batch": 8,
            "micro_batch": 8,
            "packing": False,
            "activation_checkpointing": False,
            "optimizer": "adamw_torch",
            "log_every_steps": 20,
            "checkpoint_every_steps": 100,
            "select_by": "mae",
        },
    }


def run(
    options: argparse.Namespace, head: str, texts: list[dict[str, object]]
) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
        (folder / "spec.json").write_text(json.dumps(spec(options, head)))
        with (folder / "log").open("w") as log:
            code = subprocess.run(
                [options.python, "-P", "-m", "jobs.train", "spec.json"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        said = (folder / "log").read_text()
        if code:
            sys.exit(said[-2000:])
        for line in said.splitlines():
            if line.startswith(("epoch ", "head ")):
                print(f"  {line}", flush=True)
        found: dict[str, object] = json.loads((folder / "result.json").read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--strategy", choices=["lora", "qlora"], default="lora")
    parser.add_argument("--heads", nargs="+", default=["random", "fitted"])
    options = parser.parse_args()
    texts = rows(options.rows, seed=1)
    ratio = 1.0
    for head in options.heads:
        print(f"{head} head, {options.rows} texts, {options.strategy}")
        found = run(options, head, texts)
        tuned, constant = found["metrics"]["tuned"], found["metrics"]["constant"]
        fit = found["fit"]
        print(f"  train {fit['train']:.3f}, validation {fit['validation']:.3f}: {fit['verdict']}")
        for name in ("mae", *(f"mae/{d}" for d in DIMENSIONS)):
            print(f"  test {name:16} {tuned[name]:6.3f}   mean predictor {constant[name]:6.3f}")
        ratio = tuned["mae"] / constant["mae"]
        print(f"  {ratio:.2f} of the mean predictor's error", flush=True)
    sys.exit(ratio >= BAR)


if __name__ == "__main__":
    main()
