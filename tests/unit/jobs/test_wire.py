import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest

from jobs.spec import Data, Interval, JobSpec, Model, Regression, Result, Train, encode
from jobs.spec.job import Tier
from jobs.spec.label import DimensionName, LabelSpec

INFINITE = float("inf")


def _open_floats(kind: Any, path: str = "") -> Iterator[str]:
    """The fields that infinity may stand in."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield from _open_floats(field.type, f"{path}.{field.name}")
    elif kind is float or (get_origin(kind) is Annotated and get_args(kind)[0] is float):
        for value in (INFINITE, -INFINITE):
            with contextlib.suppress(msgspec.ValidationError):
                msgspec.convert(value, kind)
                yield path
    else:
        for inner in get_args(kind):
            yield from _open_floats(inner, path)


@pytest.mark.parametrize(
    ("kind", "checked_elsewhere"),
    [
        (JobSpec, {".gates.min", ".gates.max"}),  # see launcher/inputs/metrics.py
        (LabelSpec, set()),
    ],
)
def test_no_figure_of_a_spec_is_infinite(kind: Any, checked_elsewhere: set[str]) -> None:
    assert set(_open_floats(kind)) == checked_elsewhere


def test_weights_that_leave_no_overall_score_are_refused() -> None:
    with pytest.raises(ValueError, match="weights: all are 0"):
        Regression(dimensions=("risk", "tone"), weights={"risk": 0.0, "tone": 0.0})
    Regression(dimensions=("risk", "tone"), weights={"risk": 0.0})


@pytest.mark.parametrize(
    "name", ["", " ", "risk ", "risk\n", "ri\tsk", "ri\x1b[31msk", "ri\u2028sk"]
)
def test_a_dimension_or_a_tier_has_a_name_that_can_be_printed(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name of printable characters"):
        Regression(dimensions=("tone", name))
    if name:
        with pytest.raises(ValueError, match="expected a name of printable characters"):
            Regression(dimensions=("tone",), tiers=(Tier(name=name, min=0.0),))


def test_names_that_people_give_are_taken() -> None:
    Regression(dimensions=("macro_risk_severity", "hype|cost", "Klarheit / Größe", "明確さ"))


def test_an_oracle_s_dimension_has_no_line_break() -> None:
    assert msgspec.convert("risk", DimensionName) == "risk"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("risk\n", DimensionName)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (Result(run_id="a", status="success", metrics={"tuned": {"f1": float("nan")}}), "f1"),
        (
            Result(
                run_id="a",
                status="success",
                intervals={"tuned": {"f1": Interval(low=-INFINITE, high=1.0, n=1, method="m")}},
            ),
            "intervals.tuned.f1.low",
        ),
        (
            JobSpec(model=Model(id="m"), data=Data(train="d"), train=Train(max_grad_norm=INFINITE)),
            "train.max_grad_norm",
        ),
    ],
)
def test_what_could_not_be_read_again_is_not_written(value: msgspec.Struct, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        encode(value)
