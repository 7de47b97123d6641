"""Our memory model against published peaks: `python -m benchmarks.vram_residuals [--rows]`.

Peaks come from different counters (reserved by torch's allocator; an unstated tool), so residuals
are listed per source and never pooled. The published runs used transformers' plain loss, so that
is what is modelled; rows whose lengths are only an upper bound stand apart.
"""

import argparse
import statistics
from collections import defaultdict
from typing import NamedTuple

from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from launcher.estimate.vram import memory
from launcher.types import GIB

# Fake-tensor traces of torch 2.13 and transformers 5.23 with the plain loss, GiB (2026-11):
# model, micro-batch, sequence length, peak. Not validated against a card.
TRACED = (
    ("Qwen/Qwen2.5-0.5B", 1, 1024, 3.09),
    ("Qwen/Qwen2.5-0.5B", 4, 1024, 9.32),
    ("Qwen/Qwen2.5-1.5B", 1, 1024, 5.20),
    ("Qwen/Qwen2.5-7B", 1, 1024, 16.87),
    ("Qwen/Qwen2.5-7B", 4, 2048, 32.54),
)


PASSING = ("saved activations", "one layer at work", "loss", "evaluation")


def group_of(row: dict[str, str]) -> str:
    exact = (
        "exactly" in row["seq_note"]
        or row["source_id"] == "answerai"
        or (row["source_id"] == "ms-swift" and int(row["seq_len"]) <= 1024)
    )
    length = "exact length" if exact else "length at most"
    return f"{row['source_id']} · {row['method']} · {row['metric'][:24]} · {length}"


class Found(NamedTuple):
    ours: float  # GiB, as this row's counter would see it
    measured: float  # GiB
    slack: float  # allocator slack that would close the gap, share of what comes and goes

    @property
    def residual(self) -> float:
        return self.measured / self.ours - 1


def compare(row: dict[str, str]) -> Found:
    """Modelled and measured peak; reserved counters leave the CUDA context out."""
    terms = memory(SHAPES[row["model"]], spec_of(row), card_of(row), loss="plain").terms
    leave = ("CUDA context",) if "reserved" in row["metric"] else ()
    parts = {t.name: t.bytes / GIB for t in terms if t.name not in leave}
    ours, measured = sum(parts.values()), float(row["peak_gib_per_gpu"])
    slack = parts["allocator slack"]
    passing = sum(parts[n] for n in PASSING if n in parts)
    return Found(ours, measured, (measured - ours + slack) / passing)


def traced() -> None:
    from jobs.spec import Data, Lora, Model, ResolvedSpec, Train
    from launcher.estimate.shapes import shape_of

    for model_id, batch, length, peak in TRACED:
        spec = ResolvedSpec(
            run_id="traced",
            model=Model(id=model_id),
            data=Data(train="traced"),
            strategy="lora",
            dtype="bf16",
            device="cuda",
            quantization=None,
            lora=Lora(dropout=0.0),
            train=Train(micro_batch=batch, seq_len=length, optimizer="adamw_torch", packing=False),
        )
        row = {"gpu": "A100 80GB"}
        terms = memory(shape_of(spec.model)[0], spec, card_of(row), loss="plain").terms
        unseen = ("CUDA context", "allocator slack", "autocast copies", "gradients")
        ours = sum(t.bytes for t in terms if t.name not in unseen) / GIB
        print(f"{model_id:20s} {batch}x{length}  ours {ours:6.2f}  traced {peak:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true", help="list every row")
    args = parser.parse_args()
    traced()
    groups: dict[str, list[Found]] = defaultdict(list)
    for row in filter(expressible, rows("vram_measured_dev.csv")):
        try:
            found = compare(row)
        except ValueError:  # "OOM" in place of a number
            continue
        groups[group_of(row)].append(found)
        if args.rows:
            shape = f"{row['model']} {row['micro_batch']}x{row['seq_len'][:5]}"
            print(
                f"{row['source_id']:20s} {row['method']:5s} {shape:26s} ckpt {row['grad_ckpt'][:3]}"
                f"  ours {found.ours:6.2f}  measured {found.measured:6.2f}"
                f"  {found.residual:+.0%}  slack {found.slack:.2f}"
            )
    print(f"{'measured / ours - 1':76s} rows  lowest  median highest  slack")
    for name, all_found in groups.items():
        residuals = [f.residual for f in all_found]
        low, mid, high = min(residuals), statistics.median(residuals), max(residuals)
        slack = statistics.median(f.slack for f in all_found)
        print(
            f"{name:76s} {len(residuals):4d}  {low:+6.0%}  {mid:+6.0%}  {high:+6.0%}  {slack:.2f}"
        )


if __name__ == "__main__":
    main()
