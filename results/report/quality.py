"""What the model is worth: metrics before and after, as tables and bars."""

from collections.abc import Callable

from jobs.spec import Result
from results.report.page import Bars, BarSet, Figure, Table
from results.report.words import SUBJECTS, judged_on, quality_rows

_COLORS = {"tuned": 0, "constant": 1, "base": 2}
_OF_DIMENSION = "mae/"
# Errors and losses have no upper end; perplexity is the loss again, on a scale of its own.
_ERRORS = ("mae", "rmse", "loss")
_LEFT_OUT = ("perplexity",)
_INTERVALS = "Thin lines are 95 % intervals."


def metrics_table(result: Result) -> Table:
    head, *rows = quality_rows(result)
    return Table(
        caption=judged_on(result),
        head=tuple(head),
        rows=tuple(tuple(row) for row in rows),
        right=tuple(range(1, len(head))),
    )


def overall_figure(result: Result, picture: str) -> Figure | None:
    """Errors of a student that scores, shares of one that answers; the loss where it is alone."""
    names = [n for n in _names(result) if "/" not in n and n not in _LEFT_OUT]
    errors = [n for n in names if n in _ERRORS]
    shares = [n for n in names if n not in _ERRORS]
    shown = errors if "mae" in names else shares or errors
    if not shown:
        return None
    axis = "share" if shown is shares else "error, lower is better"
    return _bars(result, shown, str, "overall-metrics", "Metrics before and after", axis, picture)


def dimension_figure(result: Result, picture: str) -> Figure | None:
    shown = [n for n in _names(result) if n.startswith(_OF_DIMENSION)]
    if not shown:
        return None
    title, axis = "Mean absolute error by dimension", "mean absolute error, lower is better"
    label = _dimension
    return _bars(result, shown, label, "per-dimension-mae", title, axis, picture)


def _dimension(metric: str) -> str:
    return metric.removeprefix(_OF_DIMENSION)


def _names(result: Result) -> list[str]:
    subjects = [result.metrics[s] for s in ("tuned", "constant", "base") if s in result.metrics]
    return list(dict.fromkeys(name for known in subjects for name in known))


def _bars(
    result: Result, metrics: list[str], label: Callable[[str], str], name: str, title: str,
    axis: str, picture: str,
) -> Figure:  # fmt: skip
    sets = []
    for subject in (s for s in SUBJECTS if s in result.metrics):
        known = result.metrics[subject]
        near = result.intervals.get(subject, {}) if subject == "tuned" else {}
        spans = tuple((near[m].low, near[m].high) if m in near else None for m in metrics)
        values = tuple(known.get(m) for m in metrics)
        if any(value is not None for value in values):
            color = _COLORS[subject]
            sets.append(BarSet(name=SUBJECTS[subject], values=values, spans=spans, color=color))
    labels = tuple(label(m) for m in metrics)
    rows = tuple(
        (text, *("" if (v := s.values[i]) is None else f"{v:.4g}" for s in sets))
        for i, text in enumerate(labels)
    )
    head = ("", *(s.name for s in sets))
    text = "; ".join(_told(text, i, sets) for i, text in enumerate(labels)) + "."
    intervals = any(span is not None for s in sets for span in s.spans)
    return Figure(
        name=name, title=title, text=text, note=_INTERVALS if intervals else "",
        chart=Bars(labels=labels, sets=tuple(sets), x=axis),
        data=Table(caption=title, head=head, rows=rows, right=tuple(range(1, len(head)))),
        picture=picture,
    )  # fmt: skip


def _told(label: str, at: int, sets: list[BarSet]) -> str:
    values = [f"{s.name} {v:.3g}" for s in sets if (v := s.values[at]) is not None]
    return f"{label}: {', '.join(values)}"
