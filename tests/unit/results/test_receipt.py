import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.receipt import Line, at_most, counted, dollars, duration, figure, spend_microusd


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_spend_is_the_ceiling_in_whole_microdollars(rate: int, seconds: int) -> None:
    exact = rate * seconds
    spend = spend_microusd(rate, seconds)
    assert (spend - 1) * 3600 < exact <= spend * 3600


def test_a_fraction_of_a_second_is_paid() -> None:
    assert spend_microusd(3600, 0.1) == 1
    assert spend_microusd(740_000, 3600.0) == 740_000


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.0, "0 s"),
        (0.0114, "41 s"),
        (0.2083, "12 m 30 s"),
        (3.084, "3 h 05 m"),
        (120, "120 h 00 m"),
    ],
)
def test_durations_have_two_units(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_small_sums_keep_their_digits() -> None:
    assert [dollars(m) for m in (0, 1_230_000, 400, 37, 1_234_560_000)] == [
        "$0.00",
        "$1.23",
        "$0.0004",
        "$0.000037",
        "$1,234.56",
    ]


def test_one_is_not_said_as_many() -> None:
    assert [counted(n, "row") for n in (0, 1, 1_200)] == ["0 rows", "1 row", "1,200 rows"]


def test_a_bound_is_rounded_up_and_what_it_bounds_is_not() -> None:
    sums = (0, 1, 94_000, 1_480_001, 10_000_000)
    assert [at_most(m) for m in sums] == ["$0.00", "$0.01", "$0.10", "$1.49", "$10.00"]
    assert figure(94_000.0, "microusd", upper=True) == "$0.10"
    assert figure(94_000.0, "microusd") == "$0.09"


def test_what_nothing_measured_is_said() -> None:
    line = Line(name="memory", unit="bytes", planned=2.0, planned_upper=None, actual=None)
    assert line.off_by is None
    assert figure(line.actual, line.unit) == "not measured"


def test_an_overestimate_is_positive() -> None:
    line = Line(name="memory", unit="bytes", planned=3.0, planned_upper=None, actual=2.0)
    assert line.off_by == 0.5
