from datetime import UTC, datetime, timedelta

from launcher.catalog.enabled import Check
from launcher.checking.doctor import providers

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def last(age: timedelta, *enabled: str) -> Check:
    at = (NOW - age).isoformat()
    return Check(checked_at=at, skypilot="0.14.1", enabled=enabled, disabled={})


def test_where_skypilot_may_rent_is_never_silently_unknown() -> None:
    found = providers(None, NOW)
    assert (found.state, found.next) == ("unknown", "`launch offers --refresh` asks SkyPilot")


def test_an_answer_has_its_age_and_counts_for_a_day() -> None:
    found = providers(last(timedelta(hours=5), "runpod", "aws"), NOW)
    assert (found.state, found.next) == ("ok", "")
    assert found.found == "SkyPilot 0.14.1 may rent: RunPod, AWS (5 h ago)"
    found = providers(last(timedelta(days=3), "runpod"), NOW)
    assert (found.state, found.found) == (
        "unknown",
        "SkyPilot 0.14.1 may rent: RunPod (3 days ago)",
    )
    assert found.next


def test_nowhere_is_an_answer_too() -> None:
    assert "may rent: nowhere" in providers(last(timedelta(hours=1)), NOW).found
