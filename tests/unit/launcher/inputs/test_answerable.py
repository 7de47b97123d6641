"""Which gates the judged rows can answer, as jobs/metrics.py counts."""

import json
from pathlib import Path

import msgspec
import pytest

from jobs.metrics import score
from jobs.spec import (
    Data,
    Evaluation,
    Gate,
    JobSpec,
    Model,
    PromptCompletionRow,
    Regression,
    Tier,
)
from jobs.spec.metrics import ANSWERS
from launcher.errors import BadInput
from launcher.inputs.answerable import judged, require_answerable, shown
from launcher.inputs.judging import scan_judging
from launcher.inputs.scanning import scan_data

PLAIN = "12"
ANSWER = json.dumps({"answer": "12", "citation": "A"})
UNCITED = json.dumps({"answer": "12"})
REFUSAL = json.dumps({"answer": None, "citation": None})
OF_ROWS = tuple(name for name in ANSWERS if name not in ("cited_ids_exist", "hallucination_rate"))


def job(metric: str, train: Path = Path("rows.jsonl"), **evaluation: object) -> JobSpec:
    return JobSpec(
        model=Model(id="a/b"),
        data=Data(train=str(train)),
        eval=Evaluation(**evaluation),
        gates=(Gate(metric=metric, min=0.5),),
    )


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Sixty rows with a plain answer."""
    rows = (json.dumps({"prompt": f"{n} + 1?", "completion": str(n + 1)}) for n in range(60))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("metric", OF_ROWS)
@pytest.mark.parametrize(
    "answers",
    [[PLAIN], [PLAIN, ANSWER], [ANSWER], [UNCITED], [UNCITED, REFUSAL], [ANSWER, REFUSAL]],
)
def test_a_gate_is_refused_where_the_answers_themselves_give_no_value(
    metric: str, answers: list[str]
) -> None:
    rows = judged("test", [shown(PromptCompletionRow("q", a)) for a in answers], None)
    try:
        require_answerable(job(metric), rows)
        given = True
    except BadInput:
        given = False
    assert given == (metric in score(answers, answers))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("json_parse_rate", "JSON object as the answer of every row, and 6 of the 6 test rows are"),
        ("refusal_precision", "have no value: it needs a JSON object"),
        ("hallucination_rate", "leave the gate out, or give rows in eval.golden or data.test"),
    ],
)
def test_what_the_held_out_rows_lack_is_said_at_plan_time(
    sums: Path, metric: str, said: str
) -> None:
    made = job(metric, sums)
    with pytest.raises(BadInput, match=rf"^gates\[0\]\.metric: {metric}") as caught:
        scan_judging(made, scan_data(made))
    assert said in str(caught.value)


def test_the_golden_rows_answer_in_their_stead(sums: Path) -> None:
    golden = sums.parent / "golden.jsonl"
    rows = [{"prompt": "a?", "completion": ANSWER}, {"prompt": "b?", "completion": REFUSAL}]
    golden.write_text("\n".join(map(json.dumps, rows)))
    made = job("refusal_precision", sums, golden=str(golden))
    facts = scan_judging(made, scan_data(made))
    assert facts.judged is not None
    assert (facts.judged.where, facts.judged.asked, facts.judged.refusing) == ("golden", 2, 1)
    limited = job("refusal_precision", sums, golden=str(golden), limit=1)
    with pytest.raises(BadInput, match="none of the 1 golden rows does"):
        scan_judging(limited, scan_data(limited))


def test_sources_of_golden_rows_judge_what_is_cited_in_any_answer(sums: Path) -> None:
    golden = sums.parent / "golden.jsonl"
    golden.write_text(json.dumps({"prompt": "a?", "completion": "b", "sources": ["A"]}))
    made = job("cited_ids_exist", sums, golden=str(golden))
    scan_judging(made, scan_data(made))
    with pytest.raises(BadInput, match="JSON object"):
        scan_judging(job("json_parse_rate", sums, golden=str(golden)), scan_data(made))


def test_an_epoch_is_chosen_by_what_the_validation_rows_give(sums: Path) -> None:
    golden = sums.parent / "golden.jsonl"  # judges the result, and chooses no epoch
    golden.write_text(json.dumps({"prompt": "a?", "completion": REFUSAL}))
    made = job("refusal_recall", sums, golden=str(golden))
    for metric, given in (("loss", True), ("exact_match", True), ("refusal_recall", False)):
        chosen = msgspec.structs.replace(
            made, train=msgspec.structs.replace(made.train, select_by=metric)
        )
        if given:
            scan_judging(chosen, scan_data(chosen))
            continue
        with pytest.raises(
            BadInput, match=r"^train\.select_by: refusal_recall .* of the 6 validation rows are"
        ):
            scan_judging(chosen, scan_data(chosen))


def test_plain_text_gives_losses_alone(tmp_path: Path) -> None:
    rows = (json.dumps({"text": f"t{n}"}) for n in range(60))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    for metric, given in (("loss", True), ("exact_match", False)):
        made = job(metric, tmp_path / "rows.jsonl")
        if given:
            scan_judging(made, scan_data(made))
            continue
        with pytest.raises(BadInput, match="no test row has a question with its answer"):
            scan_judging(made, scan_data(made))


TIERS = tuple(Tier(name=name, min=bound) for name, bound in (("low", 2), ("mid", 4), ("high", 7)))
HIGH = [(8.0, 8.0)] * 4


@pytest.mark.parametrize(
    ("scores", "given"),
    [
        ([(0.0, 0.0)], ["low"]),  # below the first tier's bound, too
        ([(4.0, 4.0)], ["low", "mid"]),  # on a bound: rounding decides
        ([(3.9999997, 3.9999997)], ["low", "mid"]),  # where the job rounds up
        ([(5.0, 5.0), (9.0, 6.0)], ["high", "mid"]),
        ([(6.0, 9.0)], ["mid"]),  # the first weighs three times as much
    ],
)
def test_the_recall_of_a_tier_wants_a_text_of_it(
    tmp_path: Path, scores: list[tuple[float, float]], given: list[str]
) -> None:
    asked = Regression(dimensions=("a", "b"), weights={"a": 3.0}, tiers=TIERS)
    for name, found in (("train", HIGH), ("validation", HIGH), ("test", scores)):
        rows = [
            {"text": f"{name} {number}", "scores": {"a": a, "b": b}}
            for number, (a, b) in enumerate(found)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = Data(
        train=str(tmp_path / "train.jsonl"),
        validation=str(tmp_path / "validation.jsonl"),
        test=str(tmp_path / "test.jsonl"),
    )
    for tier in TIERS:
        made = JobSpec(
            model=Model(id="a/b"),
            data=data,
            task="regression",
            regression=asked,
            gates=(Gate(metric=f"tier_recall/{tier.name}", min=0.5),),
        )
        facts = scan_data(made)
        assert facts.judged is not None
        assert list(facts.judged.tiers) == given
        if tier.name in given:
            scan_judging(made, facts)
            continue
        with pytest.raises(
            BadInput, match=r"test rows is of that tier; .* give rows in data\.test"
        ):
            scan_judging(made, facts)
