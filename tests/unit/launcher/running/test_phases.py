"""Where a rented machine's time and dollars went."""

import msgspec

from jobs.spec import PhaseRecord, Result
from launcher.events import MachineChanged
from launcher.running.phases import phases
from launcher.types import Attempt

T = "2026-11-21T10:{}:{}.000+00:00"
GONE = Attempt(
    attempt=2,
    started_at=T.format("00", "00"),
    executor="skypilot",
    handle="skypilot:x-2",
    provider="runpod",
    instance="4090",
    microusd_per_hour=3_600_000,
    machine="GONE",
    gone_at=T.format("10", "00"),
)
EVENTS = (
    (T.format("00", "10"), MachineChanged(attempt=1, state="UP")),
    (T.format("02", "00"), MachineChanged(attempt=2, state="UP")),
    (T.format("09", "00"), MachineChanged(attempt=2, state="ENDING")),
)
SEEN = (PhaseRecord(at=T.format("03", "00"), phase="load"),)
SECONDS = {"load": 60.0, "train": 240.0}
RESULT = Result(run_id="x", status="success", failure=None, seconds_by_phase=SECONDS)


def test_from_the_request_to_the_machines_end_nothing_is_left_out() -> None:
    found = phases(GONE, EVENTS, SEEN, RESULT)
    told = [(p.name, p.seconds) for p in found]
    assert told == [
        ("provisioning", 120.0),
        ("set-up", 60.0),
        ("load", 60.0),
        ("train", 240.0),
        ("home and teardown", 120.0),
    ]
    assert sum(p.microusd for p in found) == 600_000  # ten minutes at $3.60 an hour


def test_what_is_billed_beyond_the_seconds_stands_with_the_last() -> None:
    billed = msgspec.structs.replace(GONE, billing_seconds=3600, egress_microusd=45_000)
    found = phases(billed, EVENTS, SEEN, RESULT)
    assert sum(p.microusd for p in found) == 3_600_000 + 45_000
    assert [p.microusd for p in found[:-1]] == [
        p.microusd for p in phases(GONE, EVENTS, SEEN, RESULT)[:-1]
    ]


def test_nothing_is_told_of_a_machine_that_is_still_there_or_never_was_up() -> None:
    assert phases(msgspec.structs.replace(GONE, gone_at=None), EVENTS, SEEN, RESULT) == ()
    assert phases(GONE, EVENTS[:1], SEEN, RESULT) == ()
    assert phases(GONE, EVENTS, (), RESULT) == ()
