"""Whether the rows that a job is judged by can give the metrics that it is gated by.

As jobs/metrics.py counts: what judges JSON answers wants them of every row, and the rest of it a
row that cites, or one that refuses. As jobs/scores.py counts, the recall of a tier wants a text of
that tier. Without, the metric has no value whatever the model learns.
"""

from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import NamedTuple

from jobs.spec import JobSpec, Regression
from jobs.spec.metrics import ANSWERS, SCHEMA, TIER_RECALL, is_own
from jobs.spec.replies import read_reply
from jobs.spec.rows import Row, ScoresRow, asked_of, scores_of
from launcher.errors import BadInput
from launcher.types import Judged

_CITED = ("cited_ids_exist", "hallucination_rate")  # which sources of the row's own give, too
_REFUSED = ("refusal_precision", "refusal_recall")
# Of a mean of scores: one that is as near to a tier's bound may be on either side (jobs/scores.py).
_ROUNDING = 1e-6


class Shown(NamedTuple):
    """What the answer of one row is, or which tiers its scores may be in."""

    json: bool = False
    cites: bool = False
    refuses: bool = False
    tiers: frozenset[str] = frozenset()


_shown = cache(Shown)  # one object for all rows that are alike


def shown(row: Row, scored: Regression | None = None) -> Shown | None:
    """None where the row asks nothing; `scored` where a student gives the scores."""
    if isinstance(row, ScoresRow):
        return _shown(tiers=_tiers(row, scored)) if scored is not None else None
    pair = asked_of(row)
    if pair is None:
        return None
    reply = read_reply(pair[1])
    return _shown() if reply is None else _shown(True, bool(reply.citations), reply.refused)


def _tiers(row: ScoresRow, scored: Regression) -> frozenset[str]:
    weights = [scored.weights.get(name, 1.0) for name in scored.dimensions]
    scores = scores_of(row, scored)
    overall = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
    found = set()
    for number, tier in enumerate(scored.tiers):
        above = number == 0 or overall >= tier.min - _ROUNDING
        last = number + 1 == len(scored.tiers)
        if above and (last or overall < scored.tiers[number + 1].min + _ROUNDING):
            found.add(tier.name)
    return frozenset(found)


def judged(where: str, rows: Iterable[Shown | None], limit: int | None, sourced: int = 0) -> Judged:
    """Of the rows of that set, the first `limit` that ask something."""
    asked = list(islice((one for one in rows if one is not None), limit))
    return Judged(
        where=where,
        asked=len(asked),
        json=sum(one.json for one in asked),
        citing=sum(one.cites for one in asked),
        refusing=sum(one.refuses for one in asked),
        tiers=tuple(sorted(frozenset().union(*(one.tiers for one in asked)))),
        sourced=sourced,
    )


def require_answerable(job: JobSpec, rows: Judged) -> None:
    """Raises BadInput for a gate whose metric these rows cannot give: it would fail on every rung,
    and every rung would be paid."""
    for number, gate in enumerate(job.gates):
        lacks = _lacks(gate.metric, job, rows)
        if lacks:
            others = "rows in eval.golden or data.test"
            if rows.where == "golden":
                others = "golden rows"
            elif job.regression is not None:
                others = "rows in data.test"
            raise BadInput(
                f"gates[{number}].metric: {gate.metric} would have no value: {lacks}; "
                f"leave the gate out, or give {others} that have it"
            )


def require_choosable(job: JobSpec, rows: Judged) -> None:
    """Raises BadInput where these rows cannot give what the best epoch is chosen by: to the job
    every epoch would be as good, and each is measured for it."""
    name = job.train.select_by
    lacks = _lacks(name, job, rows) if name is not None else ""
    if lacks:
        raise BadInput(
            f"train.select_by: {name} would have no value: {lacks}; "
            "choose by loss, or give rows in data.validation that have it"
        )


def _lacks(name: str, job: JobSpec, rows: Judged) -> str:
    """What these rows lack for the metric; "" where they lack nothing."""
    if job.regression is not None:
        of_tier = name.startswith(TIER_RECALL) and name.removeprefix(TIER_RECALL) not in rows.tiers
        return f"none of the {rows.asked} {rows.where} rows is of that tier" if of_tier else ""
    if name not in (*ANSWERS, SCHEMA) and not is_own(name, job.eval):
        return ""
    of = f"of the {rows.asked} {rows.where} rows"
    if not rows.asked:
        return f"no {rows.where} row has a question with its answer"
    if name not in ANSWERS[1:] or (name in _CITED and rows.sourced):
        return ""
    if rows.json < rows.asked:
        return (
            "it needs a JSON object as the answer of every row, "
            f"and {rows.asked - rows.json} {of} are without"
        )
    if name == "citation_coverage" and not rows.citing:
        return f"it needs an answer that cites (`citation`), and none {of} does"
    if name in _REFUSED and not rows.refusing:
        return f"it needs an answer that refuses (`answer` is null), and none {of} does"
    return ""
