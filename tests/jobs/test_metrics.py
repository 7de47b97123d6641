import json

import pytest

from jobs.gates import judge
from jobs.metrics import best_constant, lower_is_better, score, worst
from jobs.spec import Gate, Interval
from jobs.spec.replies import read_reply


def reply(answer, citation):
    return json.dumps({"answer": answer, "citation": citation})


REFUSAL = reply(None, None)
REFERENCES = [reply("a", "POL-01"), reply("b", "POL-02"), reply("c", "POL-03"), REFUSAL]


def test_the_references_themselves_score_one_throughout():
    assert set(score(REFERENCES, REFERENCES).values()) == {1.0}


def test_each_metric_counts_what_it_says():
    answers = [
        reply("wrong", "POL-01"),  # cites right, answers wrong
        reply("b", "POL-03"),  # cites wrong
        REFUSAL,  # refuses what it should answer
        REFUSAL,
    ]
    assert score(answers, REFERENCES) == {
        "exact_match": 1 / 4,
        "json_parse_rate": 1.0,
        "json_citation_rate": 2 / 4,
        "citation_coverage": 1 / 3,
        "refusal_precision": 1 / 2,
        "refusal_recall": 1.0,
    }


@pytest.mark.parametrize("text", ["", "POL-01", "[1]", '{"answer": ', "null", "[" * 100_000])
def test_what_is_no_json_object_is_no_reply(text):
    assert read_reply(text) is None
    assert score([text], [REFUSAL])["json_citation_rate"] == 0.0


def test_a_list_of_citations_must_match_whole_but_covers_with_more():
    wanted = [json.dumps({"answer": "x", "citation": ["A", "B"]})]
    swapped = [json.dumps({"answer": "x", "citation": ["B", "A"]})]
    more = [json.dumps({"answer": "x", "citation": ["A", "B", "C"]})]
    assert score(swapped, wanted)["json_citation_rate"] == 1.0
    assert score(more, wanted)["json_citation_rate"] == 0.0
    assert score(more, wanted)["citation_coverage"] == 1.0


def test_one_who_never_refuses_has_no_refusal_precision():
    found = score([reply("a", "POL-01")] * 4, REFERENCES)
    assert "refusal_precision" not in found
    (gate,) = judge([Gate(metric="refusal_precision", min=0.85)], found)
    assert (gate.value, gate.passed) == (None, False)


def test_plain_text_is_judged_by_exact_match_alone():
    assert score([" yes\n", "no"], ["yes", "yes"]) == {"exact_match": 0.5}


def test_the_best_constant_is_one_of_the_training_answers():
    training = [REFUSAL] * 5 + [reply("b", "POL-02")]
    references = [reply("b", "POL-02")] * 3 + [REFUSAL]
    assert best_constant(training, references)["json_citation_rate"] == 0.75
    assert best_constant([], references) == {}


def test_answers_and_references_must_pair():
    with pytest.raises(ValueError, match="1 answers for 4"):
        score([""], REFERENCES)


def test_gates_hold_at_their_bounds():
    gates = [Gate(metric="loss", max=0.5), Gate(metric="exact_match", min=0.9)]
    assert [g.passed for g in judge(gates, {"loss": 0.5, "exact_match": 0.9})] == [True, True]
    assert [g.passed for g in judge(gates, {"loss": 0.6, "exact_match": 0.8})] == [False, False]


def test_the_value_decides_and_the_interval_is_told():
    near = {"exact_match": Interval(low=0.8, high=0.97, n=40, method="Wilson, 95 %")}
    gates = [Gate(metric="exact_match", min=0.9), Gate(metric="exact_match", min=0.95),
             Gate(metric="exact_match", max=0.96), Gate(metric="exact_match", min=0.5)]  # fmt: skip
    found = judge(gates, {"exact_match": 0.925}, near)
    assert [g.passed for g in found] == [True, False, True, True]
    assert [g.crossed for g in found] == [("below", 0.9), ("above", 0.95), ("above", 0.96), None]
    assert {(g.low, g.high, g.n) for g in found} == {(0.8, 0.97, 40)}


def test_what_better_means():
    assert [lower_is_better(n) for n in ("loss", "mae/clarity", "hallucination_rate")] == [True] * 3
    assert not lower_is_better("schema_valid_rate")
    gates = [Gate(metric="length", max=80), Gate(metric="tone", min=0.5)]
    assert lower_is_better("length", gates)
    assert not lower_is_better("tone", gates)
    assert (worst("hallucination_rate"), worst("exact_match")) == (1.0, 0.0)
    assert worst("length", gates) > 1e300 > -1e300 > worst("tone", gates)
