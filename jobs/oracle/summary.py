"""How a start ended, in figures: label_summary.json."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jobs.oracle.asking import Asking
from jobs.oracle.question import Selection
from jobs.spec.label import Dimension, DimensionSummary, LabelSummary

HISTOGRAM_PARTS = 10  # one a point on the usual scale of 0 to 10


def describe(values: Sequence[float], dimension: Dimension) -> DimensionSummary:
    """Mean, extremes and histogram of one dimension's scores; at least one value."""
    counts = [0] * HISTOGRAM_PARTS
    for value in values:
        part = int((value - dimension.min) / (dimension.max - dimension.min) * HISTOGRAM_PARTS)
        counts[min(part, HISTOGRAM_PARTS - 1)] += 1
    return DimensionSummary(
        mean=sum(values) / len(values), min=min(values), max=max(values), histogram=tuple(counts)
    )


def summarise(
    chosen: Selection, asking: Asking, kept: int, warnings: Iterable[str]
) -> LabelSummary:
    """The summary of a start that has ended; `asking.scores` holds kept and new ones."""
    past, spending, end = asking.journal.past, asking.admission.spending, asking.admission.end
    texts = chosen.questions.keys()
    labelled = [key for key in texts if key in asking.scores]
    without = texts - asking.scores.keys()
    tries = asking.spec.retries.invalid
    invalid = {key for key in without if len(past.unusable.get(key, ())) > tries}
    failed = (without - invalid) & asking.failed
    unasked = len(without) - len(invalid) - len(failed)
    reasons = Counter(r for key in texts for r in past.unusable.get(key, ()))
    return LabelSummary(
        ended=end.kind if end is not None else "done",
        message=end.message if end is not None else _advice(len(invalid), len(failed)),
        rows=chosen.rows,
        prefiltered=chosen.prefiltered,
        sampled=len(chosen.sampled),
        texts=len(texts),
        kept=kept,
        asked=len(asking.asked),
        requests=asking.requests,
        labelled=len(labelled),
        invalid=len(invalid),
        failed=len(failed),
        unasked=unasked,
        rows_written=sum(key in asking.scores for key in chosen.keys),
        tokens_in=sum(a.tokens_in or 0 for a in past.answers),
        tokens_out=sum(a.tokens_out or 0 for a in past.answers),
        microusd=spending.reported.microusd if asking.spec.prices else None,
        unreported_tokens=spending.unreported.tokens,
        unreported_microusd=spending.unreported.microusd if asking.spec.prices else None,
        dimensions={
            name: describe([asking.scores[key][name] for key in labelled], dimension)
            for name, dimension in asking.spec.dimensions.items()
            if labelled
        },
        invalid_reasons=dict(reasons),
        warnings=tuple(warnings),
    )


def _advice(invalid: int, failed: int) -> str:
    parts = []
    if invalid:
        parts.append(
            f"{invalid} texts got no usable answer: see invalid_reasons, mend the prompt or raise "
            "retries.invalid, and start again"
        )
    if failed:
        parts.append(f"{failed} texts failed: start again to ask only them")
    return "; ".join(parts) or "every text is labelled"
