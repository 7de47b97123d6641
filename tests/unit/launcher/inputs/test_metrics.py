import math
from pathlib import Path

import msgspec
import pytest

from jobs.spec import Data, Evaluation, Gate, JobSpec, Model, Regression, Tier, Train
from launcher import paths
from launcher.errors import BadInput
from launcher.inputs.metrics import mistake_in_choice, mistake_in_gates, require_exported
from launcher.recipes import Flags, load

FILTER = Regression(
    dimensions=("risk", "tone"), tiers=(Tier(name="low", min=0), Tier(name="high", min=7))
)


def job(gate: Gate, regression: Regression | None = None, **evaluation: object) -> JobSpec:
    return JobSpec(
        model=Model(id="a/b"),
        data=Data(train="rows.jsonl"),
        task="regression" if regression is not None else "sft",
        regression=regression,
        eval=Evaluation(**evaluation),
        gates=(Gate(metric="loss", max=9.0), gate),
    )


@pytest.mark.parametrize(
    "made",
    [
        job(Gate(metric="json_citation_rate", min=1.1)),  # out of reach, and the user's to set
        job(Gate(metric="exact_match", min=1.0, max=1.0)),
        job(Gate(metric="perplexity", max=8.0), generate=False),
        job(Gate(metric="schema_valid_rate", min=0.5), schema="s.json"),
        job(Gate(metric="tone", min=0.5), metrics=("/checks.py:tone",)),
        job(Gate(metric="tone/warm", min=0.5), metrics=("/checks.py:tone",)),
        job(Gate(metric="mae", max=1.0), FILTER),
        job(Gate(metric="rmse/tone", max=1.0), FILTER),
        job(Gate(metric="tier_recall/high", min=0.5), FILTER),
    ],
)
def test_what_the_evaluation_gives_may_be_gated(made: JobSpec) -> None:
    assert mistake_in_gates(made) is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            job(Gate(metric="json_citation_rat", min=0.9)),
            "gates[1].metric: this job has no metric json_citation_rat; "
            "did you mean json_citation_rate?",
        ),
        (job(Gate(metric="mae", max=1.0)), "has no metric mae (one of loss, perplexity, exact_"),
        (job(Gate(metric="exact_match", min=1.0), FILTER), "(one of loss, mae, rmse, mae/risk"),
        (job(Gate(metric="perplexity", max=8.0), FILTER), "has no metric perplexity"),
        (job(Gate(metric="mae/risc", max=1.0), FILTER), "did you mean mae/risk?"),
        (
            job(Gate(metric="minority_recall", min=0.5), Regression(dimensions=("risk",))),
            "has no metric minority_recall",
        ),
        (job(Gate(metric="schema_valid_rate", min=1.0)), "schema_valid_rate needs eval.schema"),
        (
            job(Gate(metric="exact_match", min=1.0), generate=False),
            "exact_match needs answers: set eval.generate",
        ),
        (
            job(Gate(metric="tones", min=0.5), metrics=("/checks.py:tone",)),
            "did you mean tone?",
        ),
        (job(Gate(metric="loss")), "gates[1]: loss has no bound; give min or max"),
        (
            job(Gate(metric="loss", min=0.9, max=0.5)),
            "gates[1]: min 0.9 is above max 0.5, so nothing passes",
        ),
        (job(Gate(metric="loss", max=float("nan"))), "gates[1]: a bound of loss is no number"),
        (job(Gate(metric="loss", min=-math.inf)), "gates[1]: a bound of loss is no number"),
    ],
)
def test_what_no_model_could_pass_is_a_mistake(made: JobSpec, said: str) -> None:
    found = mistake_in_gates(made)
    assert found is not None
    assert said in found
    assert "\n" not in found


def choosing(name: str, regression: Regression | None = None, **evaluation: object) -> JobSpec:
    made = job(Gate(metric="loss", max=1.0), regression, **evaluation)
    return msgspec.structs.replace(made, train=Train(select_by=name))


@pytest.mark.parametrize(
    "made",
    [
        choosing("loss", generate=False),
        choosing("json_citation_rate"),
        choosing("schema_valid_rate", schema="s.json"),
        choosing("tone/warm", metrics=("/checks.py:tone",)),
        choosing("mae/risk", FILTER),
    ],
)
def test_an_epoch_may_be_chosen_by_what_it_is_judged_by(made: JobSpec) -> None:
    assert mistake_in_choice(made) is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (choosing("json_citation_rat"), "did you mean json_citation_rate?"),
        (choosing("mae"), "train.select_by: this job has no metric mae (one of loss, exact_match"),
        (choosing("tier_recall/high", FILTER), "train.select_by: this job has no metric"),
    ],
)
def test_an_epoch_is_not_chosen_by_what_nothing_gives(made: JobSpec, said: str) -> None:
    assert said in (mistake_in_choice(made) or "")


def test_an_export_is_gated_by_what_its_files_are_measured_by() -> None:
    made = job(Gate(metric="loss", max=1.0), metrics=("/checks.py:tone",))
    for name in ("perplexity_change", "agreement", "json_citation_rate", "tone/warm", "loss"):
        require_exported([Gate(metric=name, max=1.0)], made)
    with pytest.raises(BadInput, match=r"--gate agreemnt: .* did you mean agreement\?"):
        require_exported([Gate(metric="agreemnt", min=0.9)], made)


def test_every_shipped_recipe_gates_what_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    for recipe in paths.recipes():
        flags = Flags(data="rows.jsonl", model="a/b", sets=("eval.golden=null",))
        found = load(recipe, flags).job
        assert mistake_in_gates(found) is None


def test_it_is_said_who_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "own.yaml").write_text("model: a/b\ndata: rows.jsonl\ngates: [{metric: los}]\n")
    with pytest.raises(BadInput, match=r"^\S+own\.yaml: gates\[0\]: los has no bound"):
        load("own.yaml", Flags())
    gate = "gates=[{metric: los, max: 1}]"
    with pytest.raises(BadInput, match=r"^--set \S+: train\.select_by: .*exact_match\?$"):
        load("own.yaml", Flags(sets=("gates=[]", "train.select_by=exact_math")))
    with pytest.raises(BadInput, match=r"^--set .*: gates\[0\]\.metric: .*did you mean loss\?$"):
        load("own.yaml", Flags(sets=(gate,)))
