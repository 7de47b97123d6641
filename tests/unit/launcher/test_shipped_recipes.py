"""Every recipe that comes with the project is read, filled with rows of its shape, and planned."""

import json
from pathlib import Path

import pytest

from jobs.spec import JobSpec
from launcher import paths, planner, recipes
from launcher.catalog.offers import embedded_offers
from launcher.estimate import shapes
from launcher.inputs import scanning
from launcher.types import GIB, ModelFacts, Offer, Plan
from tests.unit.launcher.plans import local

ROWS = 300


def rows_for(job: JobSpec) -> list[dict[str, object]]:
    if job.regression is None:
        return [{"prompt": f"{i} " + "q" * 400, "completion": "a" * 200} for i in range(ROWS)]
    scores = dict.fromkeys(job.regression.dimensions, 5.0)
    return [{"text": f"{i} " + "word " * 300, "scores": scores} for i in range(ROWS)]


def plan(name: str, folder: Path, offers: tuple[Offer, ...], *sets: str) -> Plan:
    data = folder / "rows.jsonl"
    if not data.exists():
        data.write_text("{}\n")
    flags = recipes.Flags(data=str(data), sets=sets)
    request = recipes.load(name, flags)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows_for(request.job)))
    shape, source = shapes.shape_of(request.job.model)
    model = ModelFacts(
        id=request.job.model.id,
        architecture=shape.architecture,
        parameters=shape.parameters,
        named_parameters=None,
        source=source,
    )
    return planner.plan(
        request.job,
        request.budget,
        shape,
        model,
        scanning.scan_data(request.job),
        offers,
        run_id="r",
        created_at="2026-11-21T00:00:00+00:00",
        recipe=name,
        settings=request.settings,
        warnings=(),
    )


def test_all_five_kinds_and_the_sample_are_there() -> None:
    kinds = {"filter", "json-citations", "low-ram", "multi-gpu-70b", "nightly-coder", "sample"}
    assert set(paths.recipes()) == kinds


@pytest.mark.parametrize("name", ["filter", "json-citations", "multi-gpu-70b", "nightly-coder"])
def test_a_rented_card_holds_it_within_the_recipes_own_cap(name: str, tmp_path: Path) -> None:
    sets = ("budget.max_cost=10",) if name == "filter" else ()
    made = plan(name, tmp_path, embedded_offers(), *sets)
    assert made.chosen is not None, made.candidates[0].reason
    assert made.budget.max_cost_microusd is not None
    assert 0 < made.chosen.worst_microusd <= made.budget.max_cost_microusd


def test_a_student_fits_a_card_of_16_gb(tmp_path: Path) -> None:
    made = plan("filter", tmp_path, (local("RTX4090", 15.7),))
    assert made.chosen is not None, made.candidates[0].reason
    assert made.chosen.estimate is not None
    assert made.chosen.estimate.memory_upper_bytes < 8 * GIB


def test_half_a_billion_fits_4_and_a_half_gb_of_ram_and_1_5_billion_do_not(tmp_path: Path) -> None:
    small = (local("cpu", 4.5e9 / GIB),)
    fits = plan("low-ram", tmp_path, small, "budget.max_hours=24")
    assert fits.chosen is not None, fits.candidates[0].reason
    bigger = plan("low-ram", tmp_path, small, "model.id=Qwen/Qwen2.5-1.5B-Instruct")
    assert bigger.chosen is None
    assert "GiB" in bigger.candidates[0].reason


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(recipes.BadInput, match="filter, json-citations"):
        recipes.load("flter.yaml", recipes.Flags())
