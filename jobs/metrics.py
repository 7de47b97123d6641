"""What answers are worth. Pure: strings in, shares out; no torch.

An answer is judged against its reference. Where the references are JSON objects with a
`citation` (a string, a list of them, or null) and an `answer` (null: refused), the JSON metrics
apply too. All metrics are shares between 0 and 1.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from jobs.outcome import BadInput
from jobs.spec import Gate, ResolvedSpec
from jobs.spec.metrics import ANSWERS, LOSSES, SCHEMA, choosable
from jobs.spec.replies import read_reply

# Each distinct training answer is scored on every validation row; beyond this many the rest,
# which are rarer, are not tried.
CONSTANTS_TRIED = 1000

JSON_NAMES = ANSWERS[1:]

# Errors; every other metric is a share of what is right.
_LOWER = (*LOSSES, "mae", "rmse", "hallucination_rate")


def require_choosable(job: ResolvedSpec, own: Sequence[str] = ()) -> None:
    """Raises `BadInput` for a metric to choose by that no evaluation would give; `own`: those of
    the user's functions."""
    name, known = job.train.select_by, [*choosable(job), *own]
    if name is not None and name not in known:
        raise BadInput(f"train.select_by: {name}: not one of {', '.join(known)}")


def lower_is_better(metric: str, gates: Sequence[Gate] = ()) -> bool:
    """Whether a smaller value of the metric is the better one; `mae/clarity` is one of `mae`.

    What a metric of the user's own means only a gate can tell: with a `max` and no `min`, smaller.
    """
    kind = metric.partition("/")[0]
    if kind in (*ANSWERS, SCHEMA, *_LOWER):
        return kind in _LOWER
    bounds = [gate for gate in gates if gate.metric == metric]
    return any(gate.max is not None and gate.min is None for gate in bounds)


def worst(metric: str, gates: Sequence[Gate] = ()) -> float:
    """What stands for a metric that an evaluation in training could not take."""
    lower = lower_is_better(metric, gates)
    if metric in (*ANSWERS, SCHEMA):
        return 1.0 if lower else 0.0
    return sys.float_info.max if lower else -sys.float_info.max


def hits(answers: Sequence[str], references: Sequence[str]) -> dict[str, list[bool]]:
    """What each metric counts, by name: one entry for every row that it looks at.

    exact_match: the reference, whitespace at the ends aside. json_parse_rate: a JSON object.
    json_citation_rate: a JSON object that cites exactly what the reference cites.
    citation_coverage: of the rows with something to cite, those where all of it is cited.
    refusal_precision: of the refusals, those that should be. refusal_recall: of those that should
    be refused, those that are.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers for {len(references)} references")
    same = [a.strip() == r.strip() for a, r in zip(answers, references, strict=True)]
    found = {"exact_match": same}
    wanted = [read_reply(reference) for reference in references]
    if any(reply is None for reply in wanted):
        return found
    given = [read_reply(answer) for answer in answers]
    pairs = [(g, w) for g, w in zip(given, wanted, strict=True) if w is not None]
    return found | {
        "json_parse_rate": [g is not None for g, _ in pairs],
        "json_citation_rate": [g is not None and g.citations == w.citations for g, w in pairs],
        "citation_coverage": [
            g is not None and g.citations >= w.citations for g, w in pairs if w.citations
        ],
        "refusal_precision": [w.refused for g, w in pairs if g is not None and g.refused],
        "refusal_recall": [g is not None and g.refused for g, w in pairs if w.refused],
    }


def score(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The share of what `hits` counts, by name.

    A share of nothing is left out (an answerer that never refuses has no refusal precision), so
    a gate on it fails.
    """
    return shares(hits(answers, references))


def shares(counted: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    return {name: sum(found) / len(found) for name, found in counted.items() if found}


def best_constant(training_answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of the best answer that ignores the question, chosen among the training answers.

    Best by json_citation_rate, or exact_match where the references are no JSON; ties go to the
    answer that training shows more often.
    """
    distinct = [text for text, _ in Counter(training_answers).most_common(CONSTANTS_TRIED)]
    scores = [score([text] * len(references), references) for text in distinct]
    empty: dict[str, float] = {}
    return max(scores, key=lambda s: s.get("json_citation_rate", s["exact_match"]), default=empty)
