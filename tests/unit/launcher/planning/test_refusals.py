"""How a cap and a worst case are told."""

from launcher.planning.refusals import usd


def test_none_is_told_as_any_other_sum_that_costs_nothing() -> None:
    sums = (0, 94_000, 9_990_001, 1_234_000_000)
    assert [usd(microusd) for microusd in sums] == ["$0.00", "$0.10", "$10", "$1,234"]
