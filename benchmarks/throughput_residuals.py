"""Our time model against published rates: `python -m benchmarks.throughput_residuals`.

`share` is the share of the card's dense 16-bit peak that would reproduce the row, from which the
range in launcher/estimate/evidence.py was read. Rows without tokens/s at an exact length are left
out.
"""

from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from launcher.estimate.evidence import PUBLISHED
from launcher.estimate.passes import flops_per_token, micro_batch, step_seconds


def main() -> None:
    for row in filter(expressible, rows("throughput_measured_dev.csv")):
        if not row["tokens_per_s"]:
            continue
        shape, spec, card = SHAPES[row["model"]], spec_of(row), card_of(row)
        measured = float(row["tokens_per_s"]) / int(row["n_gpus"])
        tokens = spec.train.micro_batch * spec.train.seq_len
        seconds = tokens / measured
        if spec.quantization is not None:
            linear = sum(t.parameters for t in shape.tensors() if t.kind == "linear")
            seconds -= (
                PUBLISHED.nf4_bytes_per_weight.expected * linear / (card.bandwidth_gb_s * 1e9)
            )
        # Rows of one length need no padding, and their batches no mask.
        seen = micro_batch(shape, spec, tokens, padded=False).seen
        flops = tokens * flops_per_token(shape, spec, seen)
        share = flops / seconds / (card.dense_16bit_tflops * 1e12)
        seconds_of = step_seconds(shape, spec, card, tokens, PUBLISHED, padded=False)
        span = [tokens / s for s in seconds_of]
        inside = span[2] <= measured <= span[0]
        print(
            f"{row['source_id']:12s} {row['model']:11s} {row['method']:5s} {row['gpu']:16s}"
            f" {spec.train.micro_batch}x{spec.train.seq_len:<5d} share {share:4.2f}"
            f"  measured {measured:6.0f}  ours {span[1]:6.0f} ({span[2]:.0f}-{span[0]:.0f})"
            f" tokens/s {'' if inside else 'OUTSIDE'}"
        )


if __name__ == "__main__":
    main()
