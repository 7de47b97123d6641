"""Whole jobs that are judged in every way a recipe may ask for, and pilots."""

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest

from jobs import layout
from jobs.exit_codes import EXIT_CODES
from jobs.pilot import hopeless
from jobs.progress import read_records
from jobs.samples import REVIEW_COLUMNS
from jobs.spec import PhaseRecord, Pilot, PilotResult, encode
from tests.jobs.short_job import (
    ROOT,
    SAMPLE,
    Forked,
    curve,
    finish,
    holding,
    start,
    wait_for_step,
    write_job,
)

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend

CHECKS = """
import dataclasses

@dataclasses.dataclass
class Tone:
    length: int

def length(answers, references, questions):
    assert len(answers) == len(references) == len(questions)
    return [float(Tone(len(a)).length) for a in answers]

def counted(answers, references, questions):
    return {"rows": len(answers), "same": sum(a == r for a, r in zip(answers, references))}

def only_references(answers, references, questions):
    known = set(references)
    return sum(1.0 for a in answers if a in known) / len([a for a in answers if a in known])
"""
SCHEMA = {
    "type": "object",
    "required": ["answer", "citation"],
    "properties": {"citation": {"$ref": "#/$defs/id"}},
    "$defs": {"id": {"type": ["string", "null"], "pattern": "^POL-[0-9]{2}$"}},
}


def golden(folder, rows=25):
    """Questions of the sample's validation rows, of which some name what may be cited."""
    lines = (SAMPLE / "validation.jsonl").read_text().splitlines()[20 : 20 + rows]
    found = []
    for i, line in enumerate(lines):
        row = json.loads(line)
        if i % 2:
            row["sources"] = ["see POL-01.", {"id": "POL-02", "text": "of flights"}]
        found.append(json.dumps(row) + "\n")
    (folder / "golden.jsonl").write_text("".join(found))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def judged(folders):
    """Everything that judges at once; long enough to answer in JSON."""
    folder = write_job(
        folders / "judged",
        train_rows=900,
        strategy="lora",
        quantization=None,
        lora={"dropout": 0.0},
        train={"effective_batch": 16, "micro_batch": 16, "seq_len": 64, "packing": False,
               "epochs": 2, "learning_rate": 4e-3, "activation_checkpointing": False},
        eval={"golden": "golden.jsonl", "schema": "schema.json", "max_new_tokens": 32,
              "batch": 25, "metrics": ["checks.py:length", "checks.py:counted",
                                       "checks.py:only_references"]},
        gates=[{"metric": "schema_valid_rate", "min": 0.5},
               {"metric": "hallucination_rate", "max": 0.05},
               {"metric": "only_references", "min": 0.1},
               {"metric": "length", "min": 5}],
    )  # fmt: skip
    golden(folder)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    return folder, found


def test_loss_comes_with_perplexity_and_both_with_intervals(judged):
    import math

    _, found = judged
    for subject in ("base", "tuned"):
        metrics, near = found.metrics[subject], found.intervals[subject]
        assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
        for name in ("loss", "perplexity"):
            assert near[name].low < metrics[name] < near[name].high
            assert near[name].n == 8  # the validation rows: the golden set is asked, not read
            assert "bootstrap" in near[name].method


def test_the_questions_are_the_golden_sets(judged):
    folder, found = judged
    assert (found.answered_on, found.evaluated_on) == ("golden", "validation")
    samples = [json.loads(s) for s in (folder / layout.SAMPLES).read_text().splitlines()]
    asked = [json.loads(s) for s in (folder / "golden.jsonl").read_text().splitlines()]
    assert [s["question"] for s in samples] == [r["messages"][0]["content"] for r in asked]
    assert found.metrics["tuned"]["counted/rows"] == 25
    assert found.intervals["tuned"]["json_parse_rate"].n == 25


def test_every_share_has_its_interval_and_every_metric_is_there(judged):
    _, found = judged
    tuned, near = found.metrics["tuned"], found.intervals["tuned"]
    assert tuned["json_parse_rate"] > 0.5, "two epochs teach the form"
    assert tuned["schema_valid_rate"] <= tuned["json_parse_rate"]
    assert tuned["cited_ids_exist"] + tuned["hallucination_rate"] == pytest.approx(1)
    assert near["hallucination_rate"].n == near["cited_ids_exist"].n
    assert near["length"].low < tuned["length"] < near["length"].high
    for name, interval in near.items():
        assert interval.low <= tuned[name] <= interval.high, name


def test_half_the_rows_cite_what_they_may_not(judged):
    """Their `sources` hold two policies of twenty; the other rows may cite all."""
    folder, found = judged
    samples = [json.loads(s) for s in (folder / layout.SAMPLES).read_text().splitlines()]
    cited = wrong = 0
    for i, sample in enumerate(samples):
        try:
            citation = json.loads(sample["tuned"]).get("citation")
        except ValueError:
            continue
        if citation is None:
            continue
        cited += 1
        known = ("POL-01", "POL-02") if i % 2 else [f"POL-{n:02}" for n in range(1, 21)]
        wrong += citation not in known
    assert wrong > 0
    assert found.metrics["tuned"]["hallucination_rate"] == wrong / cited


def test_an_own_metric_that_fails_after_training_is_missing_and_said(judged):
    _, found = judged
    assert "only_references" not in found.metrics["base"]
    assert any(
        "only_references: checks.py line 17, `return sum" in warning
        and "ZeroDivisionError" in warning
        and "base model" in warning
        for warning in found.warnings
    )


def test_gates_are_written_with_their_intervals(judged):
    folder, found = judged
    written = json.loads((folder / layout.GATES).read_text())
    assert [g["metric"] for g in written] == [g.metric for g in found.gates]
    for gate in written:
        assert gate["value"] is None or gate["low"] is None or gate["low"] <= gate["value"]
    by_name = {g["metric"]: g for g in written}
    assert by_name["schema_valid_rate"]["n"] == 25
    assert not by_name["hallucination_rate"]["passed"]
    assert by_name["length"]["passed"]


def test_the_review_sheet_has_20_rows_to_fill_in(judged):
    folder, _ = judged
    text = (folder / layout.REVIEW).read_bytes().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == REVIEW_COLUMNS
    assert len(rows) == 21
    assert all(row[4:] == ["", ""] and row[0] and row[3] for row in rows[1:])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"metrics": ["checks.py:nothing"]}, "checks.py has no function nothing"),
        ({"metrics": ["checks.py:broken"]}, "checks.py line 2, `return answers[0].nope()`"),
        ({"metrics": ["checks.py:text"]}, "text: checks.py: TypeError: gave str"),
        ({"metrics": ["syntax.py:tone"]}, "syntax.py line 1: SyntaxError"),
        ({"metrics": ["checks.py:exact_match"]}, "exact_match: a metric of that name exists"),
        ({"schema": "schema.json"}, "schema.json: at type: 'objct' is not"),
        ({"schema": "other.json"}, "$ref other.json#/x leads nowhere"),
        ({"golden": "golden.jsonl"}, "golden.jsonl:1: nothing to ask"),
        ({"golden": "gone.jsonl"}, "eval.golden: no file"),
    ],
)
def test_what_would_fail_after_training_fails_before(tmp_path, settings, what):
    folder = write_job(tmp_path / "bad", eval=settings)
    (folder / "checks.py").write_text(
        "def broken(answers, references, questions):\n    return answers[0].nope()\n"
        "def text(answers, references, questions):\n    return 'good'\n"
        "def exact_match(answers, references, questions):\n    return 1.0\n"
    )
    (folder / "syntax.py").write_text("def tone(:\n")
    (folder / "schema.json").write_text('{"type": "objct"}')
    (folder / "other.json").write_text('{"$ref": "other.json#/x"}')
    (folder / "golden.jsonl").write_text('{"messages": [{"role": "user", "content": "why"}]}\n')
    code, found = finish(folder, start)
    assert (code, found.failure.reason) == (2, "BAD_INPUT")
    assert what in found.failure.message
    assert found.versions == {}  # torch was not even imported


def test_a_finished_run_is_judged_again(judged):
    """On the same questions to the same figures, on others to others; nothing is trained."""
    folder, found = judged
    before = (folder / layout.RESULT).read_bytes()
    (folder / "other.jsonl").write_text(
        "".join((SAMPLE / "validation.jsonl").read_text().splitlines(keepends=True)[60:70])
    )
    again = {}
    for name, extra in (("same", ()), ("other", ("--golden", "other.jsonl"))):
        command = [sys.executable, "-P", "-m", "jobs.evaluate", ".", *extra]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert (folder / layout.EVALUATION).exists(), done.stderr
        again[name] = json.loads((folder / layout.EVALUATION).read_text())
        passed = all(gate["passed"] for gate in again[name]["gates"])
        assert done.returncode == (0 if passed else 5)
        assert json.loads(done.stdout) == again[name]
    assert not all(gate["passed"] for gate in again["same"]["gates"])
    written = {n: v for n, v in found.metrics["tuned"].items() if n not in ("loss", "perplexity")}
    assert again["same"]["metrics"]["tuned"] == written
    assert again["same"]["metrics"]["base"].keys() == found.metrics["base"].keys() - {
        "loss",
        "perplexity",
    }
    assert (again["same"]["questions"], again["other"]["questions"]) == (25, 10)
    assert again["other"]["intervals"]["tuned"]["exact_match"]["n"] == 10
    assert (folder / layout.RESULT).read_bytes() == before


def test_what_is_no_run_is_not_judged_again(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jobs.evaluate", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "spec.json" in done.stderr


# --- pilot ----------------------------------------------------------------------------------

PILOT = {"examples": 6, "steps": 4, "answers_must_parse": False}
# Each step makes the adapter a thousand million times as large.
TO_INFINITY = {"train": {"learning_rate": 0.99, "weight_decay": 1e9}}


@pytest.fixture(scope="module")
def plain(folders):
    folder = write_job(folders / "plain")
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    return folder, found


def test_a_pilot_leaves_no_trace_in_the_training(plain, folders):
    """Packed, quantised, with dropout: all that could differ."""
    folder = write_job(folders / "piloted", pilot=PILOT)
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert curve(folder) == curve(plain[0])
    assert found.metrics == plain[1].metrics
    assert found.intervals == plain[1].intervals
    shown = found.pilot
    assert (shown.examples, shown.steps, shown.hopeless) == (6, 4, ())
    assert shown.loss_after < shown.loss_before * 0.95
    assert {"loss", "exact_match", "json_parse_rate"} <= set(shown.metrics)
    assert shown.seconds > shown.seconds_per_step > 0
    assert found.seconds_by_phase["pilot"] >= shown.seconds
    phases = [r.phase for r in read_records(folder / layout.METRICS) if isinstance(r, PhaseRecord)]
    assert phases == [
        "load",
        "data",
        "longest_batch",
        "evaluate_base",
        "pilot",
        "train",
        "save",
        "evaluate",
        "done",
    ]
    assert not list(folder.glob("*.part"))


def test_a_pilot_of_full_training_leaves_no_trace_either(folders):
    same = {
        "strategy": "full",
        "quantization": None,
        "train": {"effective_batch": 8, "micro_batch": 4, "packing": False, "seq_len": 64,
                  "epochs": 1, "optimizer": "adamw_torch"},
        "eval": {"generate": False},
        "gates": [],
    }  # fmt: skip
    curves = []
    for name, pilot in (("full", None), ("full-piloted", PILOT)):
        folder = write_job(folders / name, train_rows=24, pilot=pilot, **same)
        code, found = finish(folder)
        assert code == 0, (folder / layout.LOG).read_text()
        curves.append((curve(folder), found.metrics))
    assert curves[0] == curves[1]


def test_a_pilot_is_not_repeated_after_a_restart(plain, folders):
    folder = write_job(folders / "again", pilot=PILOT)
    process = Forked(folder, holding(1))
    wait_for_step(folder, 1, process)
    process.kill()
    process.wait()
    before = (folder / layout.PILOT).read_bytes()
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    assert (folder / layout.PILOT).read_bytes() == before
    assert found.pilot is not None
    assert curve(folder) == curve(plain[0])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train": {"learning_rate": 1e-9}}, "the loss went from"),
        (TO_INFINITY, "the loss is no number"),
        ({"pilot": PILOT | {"steps": 1, "max_loss_ratio": 9, "answers_must_parse": True}},
         "no answer to 6 held-out rows parses as JSON"),
        ({"train": {"epochs": 100_000}, "deadline": 600}, "and the deadline leaves"),
    ],
)  # fmt: skip
def test_a_hopeless_run_ends_with_its_pilot(tmp_path, changes, what):
    if "deadline" in changes:
        at = datetime.now(UTC) + timedelta(seconds=changes["deadline"])
        changes = changes | {"deadline": at.isoformat()}
    folder = write_job(tmp_path / "hopeless", **{"pilot": PILOT} | changes)
    code, found = finish(folder)
    log = (folder / layout.LOG).read_text()
    assert (code, found.failure.reason) == (EXIT_CODES["PILOT_FAILED"], "PILOT_FAILED"), log
    assert what in found.failure.message
    assert found.pilot.hopeless
    assert found.metrics["base"]["loss"] > 0
    assert found.steps == 0
    assert not (folder / layout.PILOT).exists()
    assert not (folder / layout.ADAPTER).exists()


def test_a_pilot_that_began_with_no_number_is_hopeless_and_its_result_is_whole():
    found = PilotResult(
        examples=10, steps=20, loss_before=None, loss_after=1.0, metrics={}, seconds=9.0,
        seconds_per_step=0.4, train_seconds=9.0, seconds_left=None,
    )  # fmt: skip
    (why,) = hopeless(SimpleNamespace(gates=()), Pilot(), found, 0.0)
    assert why.startswith("the loss of the untrained model on 10 rows is no number")
    assert msgspec.json.decode(encode(found), type=PilotResult) == found


# --- regression -----------------------------------------------------------------------------


def regression(folder, **changes):
    """Texts scored by what is in them; short."""
    settings = {
        "task": "regression",
        "strategy": "lora",
        "quantization": None,
        "regression": {"dimensions": ["length", "questions"],
                       "tiers": [{"name": "low", "min": 0}, {"name": "high", "min": 4}]},
        "data": {"train": "scored.jsonl", "test_share": 0.2, "validation_share": 0.2},
        "train": {"epochs": 1, "learning_rate": 3e-4, "seq_len": 64, "effective_batch": 4,
                  "micro_batch": 2, "optimizer": "adamw_torch", "packing": False},
        "eval": {},
        "gates": [{"metric": "mae", "max": 2.0}, {"metric": "minority_recall", "min": 0.1}],
    } | changes  # fmt: skip
    write_job(folder, **settings)
    lines = (SAMPLE / "train.jsonl").read_text().splitlines()[:60]
    texts = [json.loads(line)["messages"][0]["content"] for line in lines]
    rows = [
        {"text": t, "scores": {"length": min(10, len(t) / 8), "questions": 10.0 * ("?" in t)}}
        for t in texts
    ]
    (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, found = finish(folder)
    assert code == 0, (folder / layout.LOG).read_text()
    return found


def test_a_regression_is_judged_with_intervals_and_piloted_without_a_trace(folders):
    plain = regression(folders / "scores")
    piloted = regression(folders / "scores-piloted", pilot={"examples": 8, "steps": 10})
    assert curve(folders / "scores") == curve(folders / "scores-piloted")
    assert plain.metrics == piloted.metrics
    assert piloted.pilot.loss_after < piloted.pilot.loss_constant * 0.95
    assert {"loss", "mae"} <= set(piloted.pilot.metrics)
    for subject in ("tuned", "constant"):
        metrics, near = plain.metrics[subject], plain.intervals[subject]
        assert set(near) == set(metrics), subject
        for name, interval in near.items():
            assert interval.low <= metrics[name] <= interval.high, name
        assert near["mae/length"].n == near["tier_accuracy"].n == 12
        assert near["minority_recall"].n < 12
    written = json.loads((folders / "scores" / layout.GATES).read_text())
    assert (written[0]["metric"], written[0]["n"]) == ("mae", 12)
    assert (folders / "scores" / layout.REVIEW).read_bytes().count(b"\r\n") == 13
