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
from launcher.estimate.evidence import CUDA_SLACK
from launcher.estimate.vram import memory
from launcher.types import GIB


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
    passing = slack / CUDA_SLACK
    return Found(ours, measured, (measured - ours + slack) / passing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true", help="list every row")
    args = parser.parse_args()
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
