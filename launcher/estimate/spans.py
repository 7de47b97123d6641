"""Three figures for one thing: low, expected and high."""

from typing import NamedTuple

from launcher.types import TimeTerm


class Span(NamedTuple):
    """Low, expected, high; of a duration (seconds) unless it says otherwise."""

    low: float
    expected: float
    high: float

    def __mul__(self, factor: object) -> "Span":
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return Span(self.low * factor, self.expected * factor, self.high * factor)

    def plus(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def at_least(self, other: "Span") -> "Span":
        return Span(*map(max, self, other))

    def over(self, rate: "Span") -> "Span":
        """Seconds for this many bytes at so many a second: each figure by its own."""
        return Span(*(s / r for s, r in zip(self, rate, strict=True)))

    def term(self, name: str, why: str) -> TimeTerm:
        low, expected, high = (s / 3600 for s in self)
        return TimeTerm(name=name, low_hours=low, expected_hours=expected, high_hours=high, why=why)
