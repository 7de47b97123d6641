"""How runs scatter on one card, and cards beside it: `python -m benchmarks.calibration_spread`.

Logarithms of measured / ours over the published rows of exact length, grouped by source, card and
strategy; the one-way analysis of variance with unequal groups (Searle et al., Variance Components,
1992, 3.6). A group is one source's, so what is between groups is between cards and strategies, but
between counters and software as well.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from benchmarks.vram_residuals import compare, group_of
from launcher.estimate.passes import step_seconds

Groups = dict[tuple[str, str, str], list[float]]


def grouped(found: Iterable[tuple[dict[str, str], float]]) -> Groups:
    groups = defaultdict(list)
    for row, ratio in found:
        groups[row["source_id"], row["gpu"], row["method"]].append(math.log(ratio))
    return dict(groups)


def memory() -> Iterable[tuple[dict[str, str], float]]:
    for row in filter(expressible, rows("vram_measured_dev.csv")):
        if group_of(row).endswith("exact length"):
            found = compare(row)
            yield row, found.measured / found.ours


def training() -> Iterable[tuple[dict[str, str], float]]:
    for row in filter(expressible, rows("throughput_measured_dev.csv")):
        if row["tokens_per_s"]:
            spec = spec_of(row)
            tokens = spec.train.micro_batch * spec.train.seq_len
            seconds = tokens / (float(row["tokens_per_s"]) / int(row["n_gpus"]))
            shape, card = SHAPES[row["model"]], card_of(row)
            ours = step_seconds(shape, spec, card, tokens, padded=False)
            yield row, seconds / ours.expected


def spread(groups: Groups) -> tuple[float, float]:
    """Standard deviations within and between groups; 0 where they are not told apart."""
    sizes = [len(group) for group in groups.values()]
    means = [sum(group) / len(group) for group in groups.values()]
    total = sum(sizes)
    grand = sum(map(sum, groups.values())) / total
    pairs = zip(groups.values(), means, strict=True)
    within = sum((y - mean) ** 2 for group, mean in pairs for y in group) / (total - len(groups))
    among = sum(n * (m - grand) ** 2 for n, m in zip(sizes, means, strict=True))
    average = (total - sum(n * n for n in sizes) / total) / (len(groups) - 1)
    between = (among / (len(groups) - 1) - within) / average
    return math.sqrt(within), math.sqrt(max(0.0, between))


def show(name: str, groups: Groups) -> None:
    for key, group in groups.items():
        mean = math.exp(sum(group) / len(group))
        print(f"{name:8s} {' · '.join(key):40s} {len(group):3d} rows  x{mean:.2f}")
    within, between = spread(groups)
    k = f"k {(within / between) ** 2:.2f}" if between else "not told apart"
    print(f"{name}: within {within:.3f}, between {between:.3f}, {k}")


def main() -> None:
    of_memory = grouped(memory())
    show("memory", of_memory)
    show("memory", {key: g for key, g in of_memory.items() if key[0] != "ms-swift"})
    show("training", grouped(training()))


if __name__ == "__main__":
    main()
