"""What a report is told by the launcher: attempts with time, dollars and reason; offers; rungs."""

import msgspec

from launcher.display.reports import told
from launcher.events import StateChanged
from launcher.types import Attempt, Ladder, Plan, Run, Rung, RungPlan
from results.report.page import Table


def attempt(number: int, **changes: object) -> Attempt:
    first = Attempt(
        attempt=number, started_at="2026-11-21T10:00:00+00:00", executor="skypilot", handle="h",
        provider="runpod", instance="1x_RTX4090_SECURE", microusd_per_hour=740_000,
        machine="GONE", gone_at="2026-11-21T10:30:00+00:00",
    )  # fmt: skip
    return msgspec.structs.replace(first, **changes)


def a_run(*attempts: Attempt) -> Run:
    return Run(
        run_id="run-1", created_at="2026-11-21T10:00:00+00:00", store="/s", state="SUCCEEDED",
        reason=None, message=None, ended_at=None, folder=None, bucket="", attempts=attempts,
    )  # fmt: skip


def cells(table: Table | None) -> list[dict[str, object]]:
    assert table is not None
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def test_each_attempt_with_time_dollars_and_reason(small_plan: Plan) -> None:
    lost = StateChanged(attempt=1, state="FAILED", reason="PREEMPTED", message="spot was taken")
    done = StateChanged(attempt=2, state="SUCCEEDED")
    held = attempt(2, machine="UP", gone_at=None)
    known = told(small_plan, a_run(attempt(1), held), [("t", lost), ("t", done)])
    first, second = cells(known.attempts)
    assert first == {
        "attempt": "1",
        "where": "runpod 1x_RTX4090_SECURE",
        "GPU": "RTX4090",
        "asked for, UTC": "2026-11-21 10:00",
        "machine": "GONE",
        "time": "30 m 00 s",
        "dollars": "$0.37",
        "ended": "FAILED",
        "why": "PREEMPTED: spot was taken",
    }
    assert (second["time"], second["dollars"], second["ended"]) == (
        "not over",
        "not over",
        "SUCCEEDED",
    )


def test_rejected_offers_stand_apart_with_their_reason(small_plan: Plan) -> None:
    fitting, rejected = told(small_plan, a_run(), []).plan
    assert [row["verdict"] for row in cells(fitting)] == ["chosen"]
    assert rejected.caption.startswith("Rejected")
    assert [(row["why"], row["at worst"]) for row in cells(rejected)] == [("dearer", "$1.48")]
    assert not rejected.folded
    many = msgspec.structs.replace(
        small_plan, candidates=(small_plan.candidates[0], *[small_plan.candidates[1]] * 9)
    )
    assert told(many, a_run(), []).plan[1].folded


def test_what_all_offers_say_is_said_once(small_plan: Plan) -> None:
    fitting, _ = told(small_plan, a_run(), []).plan
    assert isinstance(fitting, Table)
    assert "with strategy qlora, " in fitting.caption
    assert {"strategy", "speed", "price of"}.isdisjoint(fitting.head)
    assert fitting.head[3:5] == ("expected", "at worst")
    one = small_plan.candidates[0]
    older = msgspec.structs.replace(
        one, verdict="possible", offer=msgspec.structs.replace(one.offer, as_of="2025-01-01")
    )
    two = msgspec.structs.replace(small_plan, candidates=(one, older))
    (both, *_) = told(two, a_run(), []).plan
    assert isinstance(both, Table)
    assert "all with strategy qlora" in both.caption
    assert [row["price of"] for row in cells(both)] == [one.offer.as_of, "2025-01-01"]


def test_the_ladder_says_which_rung_the_cap_does_not_pay_for(small_plan: Plan) -> None:
    offer = small_plan.candidates[0].offer
    costs = {"expected_microusd": 740_000, "worst_microusd": 1_480_000}
    rungs = (
        RungPlan(rung=Rung(strategy="qlora"), offer=offer, climbed_microusd=1_480_000, **costs),
        RungPlan(
            rung=Rung(strategy="lora"), offer=offer, climbed_microusd=2_960_000, refusal="> cap",
            **costs,
        ),
    )  # fmt: skip
    plan = msgspec.structs.replace(small_plan, ladder=Ladder(near_miss=0.94, rungs=rungs))
    assert [(row["rung"], row["climbed"]) for row in cells(told(plan, a_run(), []).ladder)] == [
        ("qlora", "chosen"),
        ("lora", "> cap"),
    ]
    assert told(small_plan, a_run(), []).ladder is None
