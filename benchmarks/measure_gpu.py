"""Peaks and rates of our own job on this machine's card, beside the estimate; and its verdicts.

    .venv/bin/python -m benchmarks.measure_gpu TRAINING_PYTHON [--minutes 9] [--out FOLDER]
    .venv/bin/python -m benchmarks.measure_gpu TRAINING_PYTHON --as-card 16 --as-card 24

Random weights at real shapes, so that nothing is downloaded. Each model has a process of its own,
which trains every case for a few steps with the job's trainer, settings and adapters, on rows of
`seq_len` random tokens, or up to 31 fewer where a batch is to be padded. A row is appended to
<folder>/<card>.csv as soon as it is measured; what stands there is not measured again, so that it
may be broken off at any time. What by our own estimate needs twice the card is left out. Ends with
3 where the minutes were over before all was measured, with 1 where a verdict was wrong.

`--as-card GB` then lets torch reserve only what such a card would have (usable memory less the CUDA
context) and holds the verdict against what happens: what fits by our upper bound must run; what is
refused and runs all the same is counted. Asked are the cases that are anywhere near it: half of it
to twice. `python -m benchmarks.fit_card` reads the file. `--device cpu --models sample` proves the
way without a card; its figures mean nothing.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from jobs.spec import (
    Data,
    Lora,
    Model,
    Quantization,
    Regression,
    ResolvedEvaluation,
    ResolvedSpec,
    ResolvedTrain,
    Strategy,
)
from launcher.catalog.gpus import find
from launcher.catalog.priced import device
from launcher.estimate.evidence import CUDA_CONTEXT_BYTES
from launcher.estimate.shapes import embedded_config, from_config
from launcher.estimate.tensors import ModelShape
from launcher.estimate.vram import Memory, memory
from launcher.recipes import EIGHT_SCORES
from launcher.types import GIB, Device

ROOT = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("measure_gpu_child.py")
SAMPLE = ROOT / "jobs" / "sample" / "model"
MODELS = {
    "sample": "sample",
    "0.5B": "Qwen/Qwen2.5-0.5B",
    "1.5B": "Qwen/Qwen2.5-1.5B",
    "3B": "Qwen/Qwen2.5-3B",
    "7B": "Qwen/Qwen2.5-7B",
    "14B": "Qwen/Qwen2.5-14B",
}
STRATEGIES: tuple[Strategy, ...] = ("qlora", "lora", "full")
# seq_len, micro-batch, checkpointing, packing, rank
CASES = (
    (512, 1, True, False, 16),
    (512, 8, True, False, 16),
    (512, 4, False, False, 16),
    (1024, 4, True, True, 16),
    (2048, 1, True, True, 16),
    (2048, 4, True, False, 64),
    (4096, 1, True, True, 16),
    (4096, 2, True, False, 16),
)
SCORES = ((512, 8, True, False, 16), (512, 8, False, False, 16))  # of a regression student
STUDENT = Regression(dimensions=EIGHT_SCORES)
NEAR = 2.0  # times an estimate: whatever lies further away needs no proof
KEY = ("model", "task", "strategy", "seq_len", "micro_batch", "checkpointing", "packing", "r",
       "granted_bytes")  # fmt: skip
FIELDS = (
    "card", "total_bytes", "date", *KEY, "dtype", "optimizer", "outcome", "standing_bytes",
    "allocated_bytes", "reserved_bytes", "context_bytes", "step_seconds", "tokens_per_second",
    "expected_bytes", "slack_bytes", "upper_bytes", "versions",
)  # fmt: skip


def specs(models: list[str], device: str) -> Iterator[ResolvedSpec]:
    """The matrix, the small models first, those of one process together."""
    for name in models:
        for strategy in STRATEGIES:
            for case in CASES:
                yield spec_of(MODELS[name], strategy, case, device)
        if name in ("sample", "1.5B", "7B"):
            for case in SCORES:
                yield spec_of(MODELS[name], "qlora", case, device, STUDENT)


def spec_of(
    model: str,
    strategy: Strategy,
    case: tuple[int, int, bool, bool, int],
    device: str,
    scores: Regression | None = None,
) -> ResolvedSpec:
    seq_len, micro_batch, checkpointing, packing, r = case
    seq_len //= 1 if device == "cuda" else 16  # a CPU only proves the way
    return ResolvedSpec(
        run_id="measured",
        task="sft" if scores is None else "regression",
        regression=scores,
        model=Model(id=model),
        data=Data(train="random"),
        strategy=strategy,
        dtype="bf16" if device == "cuda" else "fp32",
        device="cuda" if device == "cuda" else "cpu",
        quantization=Quantization() if strategy == "qlora" else None,
        lora=Lora(r=r, alpha=2 * r),
        train=ResolvedTrain(
            seq_len=seq_len,
            micro_batch=micro_batch,
            effective_batch=micro_batch,
            activation_checkpointing=checkpointing,
            packing=packing,
            optimizer="paged_adamw_8bit" if device == "cuda" else "adamw_torch",
        ),
        eval=ResolvedEvaluation(generate=False, compare_base=False),
    )


def config_of(model: str) -> dict[str, object]:
    if model == "sample":
        found: dict[str, object] = json.loads((SAMPLE / "config.json").read_text())
        return found
    config = embedded_config(model)
    assert config is not None, "every model of the matrix is embedded"
    return config


def shape_of(spec: ResolvedSpec) -> ModelShape:
    shape = from_config(config_of(spec.model.id))
    if spec.regression is not None:
        shape = msgspec.structs.replace(shape, outputs=len(spec.regression.dimensions))
    return shape


def estimated(spec: ResolvedSpec, device: Device) -> Memory:
    return memory(shape_of(spec), spec, device)


class Case(NamedTuple):
    spec: ResolvedSpec
    granted: int | None  # bytes that torch may reserve; None: all


class Card(msgspec.Struct, frozen=True):
    """What the child says of the device."""

    name: str
    total_bytes: int
    compute_capability: tuple[int, int] | None
    versions: str


class Measured(msgspec.Struct, frozen=True):
    """What the child prints of one case, one line of JSON each. Bytes and seconds."""

    outcome: str  # ok, or OUT_OF_MEMORY
    standing_bytes: int = 0  # allocated when the steps are over: weights, adapters, optimizer
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    context_bytes: int = 0
    step_seconds: float = 0.0


def child_environment() -> dict[str, str]:
    """What is on PYTHONPATH stays there: a training environment may be put together by it."""
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def probe(python: str, device: str) -> Card:
    done = subprocess.run(
        [python, "-P", str(CHILD), "probe", device],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Card)


def measure(
    python: str, some: list[Case], whole_fits: bool, ends: float
) -> Iterator[tuple[Case, Measured]]:
    """One model's cases as they are done, by one child, until `ends` of the monotonic clock."""
    request = {
        "config": config_of(some[0].spec.model.id),
        "tokenizer": str(SAMPLE),
        "cases": [case._asdict() for case in some],
        "whole_fits": whole_fits,
    }
    child = subprocess.Popen(
        [python, "-P", str(CHILD), "measure"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(msgspec.json.encode(request).decode())
        child.stdin.close()
        waiting = iter(some)
        for line in child.stdout:
            if line.startswith("{"):
                yield next(waiting), msgspec.json.decode(line, type=Measured)
                if time.monotonic() > ends:
                    child.terminate()
                    return
    if child.returncode:
        sys.exit(f"{some[0].spec.model.id} ended with {child.returncode}")


def row_of(card: Card, case: Case, ours: Memory, found: Measured) -> dict[str, object]:
    spec, granted = case
    train = spec.train
    rate = train.micro_batch * train.seq_len / found.step_seconds if found.step_seconds else 0.0
    slack = sum(t.bytes for t in ours.terms if t.name == "allocator slack")
    return {
        "card": card.name, "total_bytes": card.total_bytes, "date": datetime.now(UTC).date(),
        "model": spec.model.id, "task": spec.task, "strategy": spec.strategy,
        "dtype": spec.dtype, "seq_len": train.seq_len, "micro_batch": train.micro_batch,
        "checkpointing": train.activation_checkpointing, "packing": train.packing,
        "r": spec.lora.r, "optimizer": train.optimizer, "granted_bytes": granted or "",
        "outcome": found.outcome, "standing_bytes": found.standing_bytes,
        "allocated_bytes": found.allocated_bytes, "reserved_bytes": found.reserved_bytes,
        "context_bytes": found.context_bytes,
        "step_seconds": round(found.step_seconds, 4), "tokens_per_second": round(rate, 1),
        "expected_bytes": ours.expected_bytes, "slack_bytes": slack,
        "upper_bytes": ours.upper_bytes, "versions": card.versions,
    }  # fmt: skip


def known(file: Path) -> set[tuple[str, ...]]:
    if not file.is_file():
        return set()
    with file.open(newline="") as rows:
        return {tuple(row[k] for k in KEY) for row in csv.DictReader(rows)}


def append(file: Path, row: dict[str, object]) -> None:
    new = not file.is_file()
    with file.open("a", newline="") as out:
        writer = csv.DictWriter(out, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def key_of(case: Case) -> tuple[str, ...]:
    spec, train = case.spec, case.spec.train
    what = (spec.model.id, spec.task, spec.strategy)
    rows = (train.seq_len, train.micro_batch, train.activation_checkpointing, train.packing)
    return tuple(map(str, (*what, *rows, spec.lora.r, case.granted or "")))


def as_device(card: Card, kind: str) -> Device:
    """The card as plans know it: by the catalog's name, with the catalog's rates."""
    facts = find(card.name) if kind == "cuda" else None
    known = Device(
        kind="cuda" if kind == "cuda" else "cpu", name=card.name, usable_bytes=0, total_bytes=0
    )
    return msgspec.structs.replace(
        device(facts.name) if facts is not None else known,
        usable_bytes=card.total_bytes,
        total_bytes=card.total_bytes,
        compute_capability=card.compute_capability,
    )


def worth_asking(ours: Memory, case: Case, device: Device) -> bool:
    """Whether it is not clear beforehand what happens."""
    if case.granted is not None:
        return case.granted / NEAR <= ours.expected_bytes <= case.granted * NEAR
    return device.kind == "cpu" or ours.expected_bytes <= device.total_bytes * NEAR


def verdict(ours: Memory, granted: int, found: Measured) -> str:
    """What we would have said of a card that grants so much, and what happened."""
    context = sum(t.bytes for t in ours.terms if t.name == "CUDA context")
    fits = ours.upper_bytes - context <= granted
    runs = found.outcome == "ok"
    return {
        (True, True): "fits, and ran",
        (True, False): "WRONG: said to fit, and did not",
        (False, True): "refused, and would have run",
        (False, False): "refused, and did not run",
    }[fits, runs]


def said_of(case: Case, ours: Memory, found: Measured) -> str:
    said = verdict(ours, case.granted, found) if case.granted is not None else found.outcome
    return (
        f"{' '.join(key_of(case))}: {said}; allocated {found.allocated_bytes / GIB:.2f} GiB, "
        f"reserved {found.reserved_bytes / GIB:.2f}, expected {ours.expected_bytes / GIB:.2f}, at "
        f"most {ours.upper_bytes / GIB:.2f}; {found.step_seconds:.2f} s a step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS)[1:])
    parser.add_argument("--as-card", type=float, action="append", metavar="GB", default=[])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    card = probe(options.python, options.device)
    here = as_device(card, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{here.name}.csv"
    there = known(file)
    if any(gb * 1e9 > card.total_bytes for gb in options.as_card):
        parser.error(f"--as-card: {card.name} has {card.total_bytes / 1e9:.0f} GB")
    grants = [None, *(int(gb * 1e9) - CUDA_CONTEXT_BYTES for gb in options.as_card)]
    wrong, begun, left = False, False, 0
    for model in options.models:
        cases = [
            Case(spec, granted)
            for granted in grants
            for spec in specs([model], options.device)
            if worth_asking(estimated(spec, here), Case(spec, granted), here)
        ]
        some = [case for case in cases if key_of(case) not in there]
        # one strategy's cases together: the model is built once for them
        some.sort(key=lambda case: (case.spec.task, STRATEGIES.index(case.spec.strategy)))
        left += len(some)
        if not some or (begun and time.monotonic() > ends):
            continue
        begun = True  # one case is measured however few the minutes
        whole_fits = here.kind == "cpu" or 2 * parameters(model) < 0.8 * card.total_bytes
        for case, found in measure(options.python, some, whole_fits, ends):
            ours = estimated(case.spec, here)
            append(file, row_of(card, case, ours, found))
            left -= 1
            said = said_of(case, ours, found)
            wrong |= "WRONG" in said
            print(said, flush=True)
    if left:
        print(f"{options.minutes:g} minutes are over, {left} cases left: the same command goes on")
    sys.exit(1 if wrong else 3 if left else 0)


def parameters(model: str) -> int:
    return from_config(config_of(MODELS[model])).parameters


if __name__ == "__main__":
    main()
