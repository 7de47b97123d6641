"""What plans warn of, for people."""

from collections.abc import Iterable

from launcher.types import Plan


def warning_lines(plans: Iterable[Plan]) -> list[str]:
    """A line for each warning, however many of the plans have it."""
    return [f"WARNING {said}" for said in dict.fromkeys(w for plan in plans for w in plan.warnings)]
