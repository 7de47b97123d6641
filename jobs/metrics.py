"""What answers are worth. Pure: strings in, shares out; no torch.

An answer is judged against its reference. Where the references are JSON objects with a
`citation` (a string, a list of them, or null) and an `answer` (null: refused), the JSON metrics
apply too. All metrics are shares between 0 and 1.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.spec import Gate, GateResult

# Each distinct training answer is scored on every validation row; beyond this many the rest,
# which are rarer, are not tried.
CONSTANTS_TRIED = 1000


NAMES = (
    "exact_match",
    "json_parse_rate",
    "json_citation_rate",
    "citation_coverage",
    "refusal_precision",
    "refusal_recall",
)

# Errors; every other metric is a share of what is right.
_LOWER = ("loss", "perplexity", "mae", "rmse")


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one; `mae/clarity` is one of `mae`."""
    return metric.partition("/")[0] in _LOWER


@dataclass(frozen=True)
class Reply:
    """An answer, read as the JSON object that it should be."""

    citations: frozenset[str]
    refused: bool


def read_reply(text: str) -> Reply | None:
    """None where the text is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    cited = value.get("citation")
    many = cited if isinstance(cited, list) else [] if cited is None else [cited]
    return Reply(frozenset(map(str, many)), "answer" in value and value["answer"] is None)


def score(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of the answers by name.

    exact_match: the reference, whitespace at the ends aside. json_parse_rate: a JSON object.
    json_citation_rate: a JSON object that cites exactly what the reference cites.
    citation_coverage: of the rows with something to cite, those where all of it is cited.
    refusal_precision: of the refusals, those that should be. refusal_recall: of those that should
    be refused, those that are. A share of nothing is left out (an answerer that never refuses has
    no refusal precision), so a gate on it fails.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers for {len(references)} references")
    same = [a.strip() == r.strip() for a, r in zip(answers, references, strict=True)]
    found = {"exact_match": _share(same)}
    wanted = [read_reply(reference) for reference in references]
    if any(reply is None for reply in wanted):
        return _known(found)
    given = [read_reply(answer) for answer in answers]
    pairs = [(g, w) for g, w in zip(given, wanted, strict=True) if w is not None]
    found |= {
        "json_parse_rate": _share([g is not None for g, _ in pairs]),
        "json_citation_rate": _share(
            [g is not None and g.citations == w.citations for g, w in pairs]
        ),
        "citation_coverage": _share(
            [g is not None and g.citations >= w.citations for g, w in pairs if w.citations]
        ),
        "refusal_precision": _share([w.refused for g, w in pairs if g is not None and g.refused]),
        "refusal_recall": _share([g is not None and g.refused for g, w in pairs if w.refused]),
    }
    return _known(found)


def best_constant(training_answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of the best answer that ignores the question, chosen among the training answers.

    Best by json_citation_rate, or exact_match where the references are no JSON; ties go to the
    answer that training shows more often.
    """
    distinct = [text for text, _ in Counter(training_answers).most_common(CONSTANTS_TRIED)]
    scores = [score([text] * len(references), references) for text in distinct]
    empty: dict[str, float] = {}
    return max(scores, key=lambda s: s.get("json_citation_rate", s["exact_match"]), default=empty)


def judge(gates: Sequence[Gate], metrics: dict[str, float]) -> tuple[GateResult, ...]:
    """Hold each gate against the tuned model's metrics; what was not measured does not pass."""
    results = []
    for gate in gates:
        value = metrics.get(gate.metric)
        passed = (
            value is not None
            and (gate.min is None or value >= gate.min)
            and (gate.max is None or value <= gate.max)
        )
        results.append(
            GateResult(metric=gate.metric, min=gate.min, max=gate.max, value=value, passed=passed)
        )
    return tuple(results)


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _known(found: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in found.items() if value is not None}
