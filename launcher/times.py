"""How times are written down: UTC, ISO 8601, milliseconds."""

from datetime import UTC, datetime


def stamp(at: datetime) -> str:
    """Of a time that knows its zone."""
    return at.isoformat(timespec="milliseconds")


def stamp_of(unix_seconds: float) -> str:
    """Of seconds since 1970, as SkyPilot has them."""
    return stamp(datetime.fromtimestamp(unix_seconds, UTC))
