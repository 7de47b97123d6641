"""What answers are held against beside their references."""

import csv
import json

import msgspec
import pytest

from jobs.answers import Rules, rules_of
from jobs.citations import cited_anywhere, exists, sources_of
from jobs.data import read_lines
from jobs.encode import Question
from jobs.golden import read_golden
from jobs.outcome import BadInput
from jobs.own_metrics import OwnMetric
from jobs.samples import Sample, harmless, write_review
from jobs.schema import Schema
from jobs.sft import seen_before
from jobs.spec import Evaluation, ResolvedSpec
from jobs.spec.metrics import of_answers


def reply(citation, answer="a"):
    return json.dumps({"answer": answer, "citation": citation})


def question(reference, sources=None):
    return Question("why?", "why?", reference, templated=False, sources=sources)


def rules(schema=None, own=(), known=()):
    return Rules(schema, list(own), frozenset(known), seed=17)


# --- citations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cited", "there"),
    [("POL-01", True), ("POL-0", False), ("OL-01", False), ("A", True), ("7", True), ("b", False)],
)
def test_an_id_exists_as_a_source_or_as_a_word_of_a_passage(cited, there):
    given = sources_of({"source": "A", "sources": ["see (POL-01).", {"id": 7, "text": "x"}]})
    assert exists(cited, given) is there


def test_a_row_that_names_no_source_is_told_from_one_that_names_none():
    assert sources_of({"prompt": "a"}) is None
    assert sources_of({"sources": []}) == ()
    with pytest.raises(msgspec.ValidationError):
        sources_of({"sources": 7})


def test_hallucinated_ids_are_counted_one_by_one():
    known = cited_anywhere([reply("A"), reply(["B", "C"]), "no json"])
    asked = [question(reply("A")), question(reply("B")), question(reply(None, None))]
    answers = [reply(["A", "Z"]), reply("B"), reply(None, None)]
    found = rules(known=known).measure(asked, answers)
    assert found.values["cited_ids_exist"] == pytest.approx(2 / 3)
    assert found.values["hallucination_rate"] == pytest.approx(1 / 3)
    assert found.intervals["hallucination_rate"].n == 3


def test_a_rows_own_sources_win_over_what_is_cited_elsewhere():
    asked = [question(reply("A"), sources=("A",)), question(reply("B"), sources=())]
    found = rules(known={"A", "B"}).measure(asked, [reply("B"), reply("B")])
    assert found.values["hallucination_rate"] == 1.0


def test_every_metric_is_one_that_a_gate_may_name(tmp_path):
    schema = Schema(write(tmp_path / "s.json", {}))
    replies = [reply("A"), reply(None, None)]
    found = rules(schema=schema, known={"A"}).measure([question(r) for r in replies], replies)
    assert set(found.values) == set(of_answers(Evaluation(schema="s.json")))


def test_who_cites_nothing_has_no_hallucination_rate():
    found = rules().measure([question(reply("A"))], ["no json"])
    assert "hallucination_rate" not in found.values
    assert found.values["json_parse_rate"] == 0.0


# --- schema ---------------------------------------------------------------------------------


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_schema_holds_for_valid_json_alone(tmp_path):
    schema = Schema(
        write(tmp_path / "s.json", {"type": "object", "required": ["a"], "$ref": "#/$defs/x",
                                    "$defs": {"x": {"properties": {"a": {"type": "integer"}}}}})
    )  # fmt: skip
    texts = ['{"a": 1}', '{"a": "1"}', "{}", "a: 1", "[" * 100_000]
    assert [schema.holds(text) for text in texts] == [True, False, False, False, False]
    found = rules(schema=schema).measure([question("plain")] * 2, ['{"a": 1}', "{}"])
    assert found.values["schema_valid_rate"] == 0.5


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("{", "not JSON"),
        ({"properties": {"a": {"type": "str"}}}, "at properties/a/type: 'str' is not valid"),
        ({"items": {"$ref": "https://example.org/x.json"}}, "leads nowhere"),
        ({"items": {"$ref": "#/$defs/gone"}}, "#/$defs/gone leads nowhere"),
    ],
)
def test_what_is_no_whole_schema_is_refused(tmp_path, value, what):
    with pytest.raises(BadInput) as caught:
        Schema(write(tmp_path / "s.json", value))
    assert what in str(caught.value)


# --- own metrics ----------------------------------------------------------------------------


def own(function, tmp_path):
    return OwnMetric("tone", tmp_path / "checks.py", function)


@pytest.mark.parametrize(
    ("gives", "values", "method"),
    [
        (0.5, {"tone": 0.5}, None),
        ({"a": 1, "b": 2.5}, {"tone/a": 1.0, "tone/b": 2.5}, None),
        ([1, 0, 1, True], {"tone": 0.75}, "Wilson"),
        ([0.5, 1.5, 2.5, 3.5], {"tone": 2.0}, "bootstrap"),
    ],
)
def test_what_a_function_may_give(tmp_path, gives, values, method):
    found = own(lambda *_: gives, tmp_path).measure(list("abcd"), list("abcd"), list("abcd"), 1)
    assert found.values == values
    assert found.problems == ()
    assert [i.method.partition(",")[0].split()[0] for i in found.intervals.values()] == (
        [method] if method else []
    )


@pytest.mark.parametrize(
    ("gives", "what"),
    [
        ("good", "TypeError: gave str"),
        ([1.0], "gave 1 figures for 2 answers"),
        (float("nan"), "gave nan"),
        ({"a": None}, "gave NoneType"),
    ],
)
def test_what_it_may_not_give_is_told_and_costs_only_the_metric(tmp_path, gives, what):
    found = own(lambda *_: gives, tmp_path).measure(["a", "b"], ["a", "b"], ["", ""], 1)
    assert found.values == {}
    assert what in found.problems[0]


def test_a_function_that_exits_does_not_end_the_job(tmp_path):
    def leave(*_):
        raise SystemExit(3)

    assert "SystemExit: 3" in own(leave, tmp_path).measure(["a"], ["a"], [""], 1).problems[0]


def test_it_cannot_change_the_answers_under_others(tmp_path):
    answers = ["a", "b"]
    own(lambda a, *_: a.clear() or 1.0, tmp_path).measure(answers, ["a", "b"], ["", ""], 1)
    assert answers == ["a", "b"]


# --- rules ----------------------------------------------------------------------------------


def spec(folder, **settings):
    (folder / "rows.jsonl").write_text('{"prompt": "q", "completion": "not json"}\n')
    return msgspec.convert(
        {"run_id": "r", "model": {"id": "m"}, "data": {"train": "t"}, "strategy": "lora",
         "dtype": "fp32", "device": "cpu", "quantization": None} | settings,
        ResolvedSpec,
    )  # fmt: skip


def made(folder, **settings):
    job = spec(folder, **settings)
    lines = [row.line for row in read_golden(folder / "rows.jsonl")]
    return rules_of(job, folder, lines, [])


def test_references_that_do_not_hold_the_schema_are_told(tmp_path):
    write(tmp_path / "s.json", {"type": "object"})
    _, warnings = made(tmp_path, eval={"schema": "s.json"})
    assert warnings == ["1 of 1 references do not hold eval.schema"]


def test_an_epoch_may_be_chosen_by_any_metric_that_will_be_there(tmp_path):
    write(tmp_path / "c.py", "def tone(a, r, q):\n    return {'x': 1.0}\n")
    settings = {"eval": {"metrics": ["c.py:tone"]}}
    made(tmp_path, train={"select_by": "tone/x"}, **settings)
    with pytest.raises(BadInput, match=r"tone: not one of loss, exact_match.*tone/x"):
        made(tmp_path, train={"select_by": "tone"}, **settings)
    with pytest.raises(BadInput, match="schema_valid_rate: not one of"):
        made(tmp_path, train={"select_by": "schema_valid_rate"})


def test_an_own_file_that_changed_since_the_plan_is_refused(tmp_path):
    write(tmp_path / "c.py", "def tone(a, r, q):\n    return 1.0\n")
    with pytest.raises(BadInput, match="has changed since the run was planned"):
        made(tmp_path, eval={"metrics": ["c.py:tone"]}, metrics_sha256={"c.py": "0" * 64})


# --- review ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["=1+1", "+49", "-2", "@x", "\t=1", "  =1", "\r1", "=1"])
def test_no_cell_is_a_formula(cell):
    assert harmless(cell) == "'" + cell


def test_the_sheet_is_drawn_by_the_seed_and_reads_back(tmp_path):
    samples = [Sample(f'q{i}, "x"\nline', "=ref", None if i % 2 else "b", "t") for i in range(50)]
    write_review(tmp_path / "a.csv", samples, seed=1)
    write_review(tmp_path / "b.csv", samples, seed=1)
    write_review(tmp_path / "c.csv", samples, seed=2)
    a, b, c = ((tmp_path / f"{n}.csv").read_bytes() for n in "abc")
    assert a == b != c
    assert a.startswith(b"\xef\xbb\xbfquestion,reference,base,tuned,verdict,note\r\n")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert rows[0]["question"].endswith(', "x"\nline')
    assert rows[0]["reference"] == "'=ref"


def test_few_rows_are_all_in_it(tmp_path):
    write_review(tmp_path / "a.csv", [Sample("q", "r", None, "t")] * 3, seed=1)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 4


def test_a_golden_question_that_was_trained_on_is_told(tmp_path):
    for name, questions in (("golden", "abc"), ("train", "cdc")):
        rows = (json.dumps({"prompt": q, "completion": name}) + "\n" for q in questions)
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    golden, trained = read_golden(tmp_path / "golden.jsonl"), read_lines(tmp_path / "train.jsonl")
    assert seen_before(golden, trained) == ["2 training rows ask what eval.golden asks"]
    assert seen_before(golden[:2], trained) == []
