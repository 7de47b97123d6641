"""Where a run goes when it cannot stay: the ledger is real; executor and prices are as told."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Model, StepRecord
from launcher import paths
from launcher.checking import rentable
from launcher.errors import BadInput, NoCapacity, NothingFits, OutsideFailed
from launcher.events import AttemptStarted, MachineChanged, PassedOver, StateChanged
from launcher.executors.base import Order, Sight
from launcher.executors.here import EXECUTOR_VARIABLE
from launcher.ledger import Ledger
from launcher.running import resuming, runs, starting
from launcher.running.clock import clock_of, utc_now
from launcher.running.reconciling import ledger
from launcher.times import stamp
from launcher.tracking import SPACE
from launcher.types import Budget, Candidate, Offer, Plan
from tests.unit.launcher.plans import cloud, dollars, planned
from tests.unit.launcher.renting import rent_from

RUN = "run-1"
FIRST = cloud("RTX4090", 0.5, capabilities=("autodown",))
SECOND = cloud("RTX3090", 0.6, "lambda", capabilities=("autodown",), billing_seconds=60,
               billing_minimum_seconds=60)  # fmt: skip
THIRD = cloud("A10G", 0.9, "aws", capabilities=("autodown",), microusd_per_gib_disk_hour=110,
              microusd_per_gib_egress=90_000)  # fmt: skip


class Told:
    """An executor that has of a card what it is told to have, and notes what it was given."""

    poll_seconds = 0.0

    def __init__(self) -> None:
        self.lacking: set[str] = set()
        self.orders: list[Order] = []
        self.cleared: list[str] = []

    def handle(self, run_id: str, attempt: int) -> str:
        return f"told:{run_id}-{attempt}"

    def folder(self, handle: str) -> Path:
        return paths.work_folder(RUN)

    def require_ready(self) -> None:
        pass

    def clear(self, handle: str) -> None:
        self.cleared.append(handle)

    def submit(self, handle: str, order: Order, say: Callable[[str], None]) -> None:
        self.orders.append(order)
        if order.offer.device.name in self.lacking:
            raise NoCapacity(f"no {order.offer.device.name} now")

    def look(self, handle: str) -> Sight:
        has = self.orders and self.orders[-1].offer.device.name not in self.lacking
        return Sight(alive=bool(has), started=bool(has), result=None, billed=bool(has))


@pytest.fixture
def runner(apart: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    found = Told()
    rent_from(found, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Dollars an hour by card, as they are now; what is not in it is not offered any more."""
    now = {"RTX4090": 0.5, "RTX3090": 0.6, "A10G": 0.9}

    def fresh(candidate: Candidate, asking: object) -> Offer:
        name = candidate.offer.device.name
        if name not in now:
            raise OutsideFailed(f"{name} is not in SkyPilot's list any more")
        rate = dollars(now[name])
        return msgspec.structs.replace(
            candidate.offer, microusd_per_hour=rate, as_of=utc_now().date().isoformat()
        )

    monkeypatch.setattr(rentable, "fresh_price", fresh)
    return now


@pytest.fixture
def made() -> Plan:
    """The three cards, in this order, planned just now; at worst $1 to $5."""
    plan = planned([FIRST, SECOND, THIRD], Budget(max_cost_microusd=dollars(6), max_hours=100))
    assert [c.offer for c in plan.candidates[:3]] == [FIRST, SECOND, THIRD]
    return msgspec.structs.replace(plan, created_at=stamp(utc_now()))


def submitted(made: Plan, say: Callable[[str], None] = lambda _: None) -> Ledger:
    runs.submit(made, "runs", say)
    return ledger()


def started(book: Ledger) -> list[AttemptStarted]:
    return [event for _, event in book.events(RUN) if isinstance(event, AttemptStarted)]


def test_a_fallback_is_started_at_the_price_of_now(runner: Told, prices, made: Plan) -> None:
    runner.lacking, prices["RTX3090"] = {"RTX4090"}, 0.75
    book = submitted(made)
    first, second = started(book)
    assert (first.candidate, first.microusd_per_hour) == (0, dollars(0.5))
    assert (second.candidate, second.microusd_per_hour) == (1, dollars(0.75))
    assert (second.billing_seconds, second.billing_minimum_seconds) == (60, 60)
    assert second.price_as_of == utc_now().date().isoformat()
    order = runner.orders[-1]
    assert order.offer.microusd_per_hour == dollars(0.75)
    assert order.task is not None
    assert "max_hourly_cost: 0.75" in order.task
    run = book.run(RUN)
    (none, up) = run.attempts
    assert (none.egress_microusd, up.microusd_per_hour) == (0, dollars(0.75))
    assert run.state == "RUNNING"
    due = clock_of(book.plan(RUN), run)  # by the price that was read, not the plan's
    assert due.paid_until - datetime.fromisoformat(up.started_at) == pytest.approx(
        timedelta(hours=6 / 0.75), abs=timedelta(minutes=2)
    )


def test_all_that_the_provider_bills_stands_with_the_attempt(
    runner: Told, prices, made: Plan
) -> None:
    runner.lacking, prices["A10G"] = {"RTX4090", "RTX3090"}, 0.8
    attempt = started(submitted(made))[-1]
    assert attempt.microusd_per_hour == dollars(0.8) + 110 * 100  # its disk
    assert attempt.egress_microusd > 0


def test_a_rise_past_the_rest_of_the_cap_is_passed_over_with_the_numbers(
    runner: Told, prices, made: Plan
) -> None:
    runner.lacking, prices["RTX3090"] = {"RTX4090"}, 4.0
    said: list[str] = []
    book = submitted(made, said.append)
    assert [a.candidate for a in started(book)] == [0, 2]
    (line,) = [line for line in said if "is passed over" in line]
    assert line.startswith("Lambda 1x_RTX3090_SECURE is passed over: the price has changed ($0.600")
    assert "$4.000 now): worst $" in line
    assert "> cap $" in line
    (passed,) = [e for _, e in book.events(RUN) if isinstance(e, PassedOver)]
    assert (passed.candidate, passed.message) == (1, line)


def test_when_none_is_left_nothing_is_rented_and_the_run_says_why(
    runner: Told, prices, made: Plan
) -> None:
    runner.lacking, prices["RTX3090"] = {"RTX4090"}, 4.0
    del prices["A10G"]
    with pytest.raises(NoCapacity) as failed:
        submitted(made)
    assert len(str(failed.value).splitlines()) <= 3
    run = ledger().run(RUN)
    assert (run.state, run.reason) == ("FAILED", "NO_CAPACITY")
    assert len(run.attempts) == len(runner.orders) == 1
    for words in ("no RTX4090 now", "$4.000 now", "A10G is not in SkyPilot's list any more"):
        assert words in str(failed.value)
        assert words in (run.message or "")


# --- a run that ended early ---------------------------------------------------------------------


def ended(made: Plan, hours: float, reason: str = "LOST") -> Ledger:
    """A submitted run whose one machine was held for so long, until now."""
    book = submitted(made)
    ago = utc_now() - timedelta(hours=hours)
    with book._transaction():
        book._db.execute("UPDATE attempts SET started_at = ?", (stamp(ago),))
    book.append(
        RUN,
        stamp(utc_now()),
        MachineChanged(attempt=1, state="GONE"),
        StateChanged(attempt=1, state="FAILED", reason=reason, message="its machine went"),
    )
    return book


def checkpoint(step: int, of: int) -> None:
    folder = paths.work_folder(RUN)
    whole = folder / layout.CHECKPOINTS / f"{layout.CHECKPOINT_PREFIX}{step}"
    whole.mkdir(parents=True)
    (whole / layout.COMPLETE).write_text("{}")
    record = StepRecord(
        at=stamp(utc_now()), step=step + 3, steps_total=of, epoch=0.5, loss=1.0,
        learning_rate=1e-4, grad_norm=None, tokens_per_second=1.0, memory_bytes=1, seconds=1.0,
        eta_seconds=1.0,
    )  # fmt: skip
    (folder / layout.METRICS).write_bytes(msgspec.json.encode(record) + b"\n")


def test_a_resume_is_looked_at_and_priced_before_anything_is_started(
    runner: Told, prices, made: Plan
) -> None:
    book = ended(made, 1.0)
    prices["RTX4090"] = 0.8
    ready = resuming.resumption(RUN, lambda _: None)
    assert len(book.run(RUN).attempts) == 1
    assert ready.place.which == 0
    assert ready.place.candidate.offer.microusd_per_hour == dollars(0.8)
    assert ready.left_microusd == pytest.approx(dollars(5.5), abs=2000)  # an hour at $0.50 is spent
    resuming.resume(ready, lambda _: None)
    assert [a.microusd_per_hour for a in book.run(RUN).attempts] == [dollars(0.5), dollars(0.8)]
    assert runner.cleared == ["told:run-1-1"]


def test_a_resume_asks_for_the_executor_that_the_run_was_started_with(
    runner: Told, prices, made: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "process")
    ended(made, 1.0)
    monkeypatch.delenv(EXECUTOR_VARIABLE)
    resuming.resumption(RUN, lambda _: None)
    assert os.environ[EXECUTOR_VARIABLE] == "process"


def test_what_a_checkpoint_keeps_need_not_be_paid_for_again(
    runner: Told, prices, made: Plan
) -> None:
    assert made.chosen is not None
    assert made.chosen.estimate is not None
    training = tuple(msgspec.structs.replace(t, name="training") for t in made.chosen.estimate.time)
    estimate = msgspec.structs.replace(made.chosen.estimate, time=training)
    chosen = msgspec.structs.replace(made.chosen, estimate=estimate)
    budget = Budget(max_cost_microusd=chosen.worst_microusd, max_hours=100)
    alone = msgspec.structs.replace(made, candidates=(chosen,), budget=budget)
    ended(alone, 0.5)
    with pytest.raises(NothingFits, match=r"nothing was rented: .* worst \$1 > cap \$0\.75"):
        resuming.resumption(RUN, lambda _: None)
    checkpoint(50, of=100)
    ready = resuming.resumption(RUN, lambda _: None)
    assert ready.done == 0.5
    assert ready.place.candidate.worst_microusd == pytest.approx(chosen.worst_microusd / 2, abs=200)


def test_a_resume_goes_where_the_same_job_can(runner: Told, prices, made: Plan) -> None:
    assert made.candidates[1].spec is not None
    other = msgspec.structs.replace(made.candidates[1].spec, strategy="lora")
    second = msgspec.structs.replace(made.candidates[1], spec=other)
    made = msgspec.structs.replace(
        made, candidates=(made.candidates[0], second, *made.candidates[2:])
    )
    ended(made, 0.1)
    del prices["RTX4090"]
    assert resuming.resumption(RUN, lambda _: None).place.which == 1  # nothing was done yet
    checkpoint(50, of=100)
    assert resuming.resumption(RUN, lambda _: None).place.which == 2
    del prices["A10G"]
    with pytest.raises(NoCapacity, match=r"nothing was rented: .*RTX4090 is not in .*A10G is not"):
        resuming.resumption(RUN, lambda _: None)
    assert len(ledger().run(RUN).attempts) == 1


def test_a_resume_that_finds_no_capacity_goes_on_too(runner: Told, prices, made: Plan) -> None:
    book = ended(made, 0.1)
    ready = resuming.resumption(RUN, lambda _: None)
    runner.lacking = {"RTX4090"}
    resuming.resume(ready, lambda _: None)
    assert [a.candidate for a in book.run(RUN).attempts] == [0, 0, 1]


def test_two_do_not_resume_one_run(runner: Told, prices, made: Plan) -> None:
    ended(made, 0.1)
    ready = resuming.resumption(RUN, lambda _: None)
    resuming.resume(ready, lambda _: None)
    with pytest.raises(BadInput, match="has changed meanwhile"):
        resuming.resume(ready, lambda _: None)


def test_a_task_names_the_hour_s_limit_of_its_own_price(runner: Told, prices, made: Plan) -> None:
    submitted(made)
    assert runner.orders[0].task is not None
    assert "max_hourly_cost: 0.5" in runner.orders[0].task
    assert starting.earlier_by(made, "skypilot") == timedelta()


def test_a_full_disk_is_trouble_outside(
    runner: Told, prices, made: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: str, order: Order, say: Callable[[str], None]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "submit", full)
    with pytest.raises(OutsideFailed, match=r"run-1 cannot be started: .*No space left"):
        submitted(made)
    run = ledger().run(RUN)
    assert (run.state, run.reason, run.attempts[-1].machine) == ("FAILED", "SETUP_FAILED", "GONE")
    assert "No space left" in (run.message or "")


TOKEN, KEY, OTHER = "HF_TOKEN", *starting.NEEDED_SECRETS


@pytest.mark.parametrize(
    ("changed", "space", "bucket", "along"),
    [
        ({}, "", "", {TOKEN}),
        ({}, "", "s3://bucket/runs", {TOKEN, KEY, OTHER}),
        ({"model": Model(id="/models/own")}, "", "", set()),
        ({"model": Model(id="/models/own")}, "", "s3://bucket/runs", {KEY, OTHER}),
        ({"model": Model(id="/models/own"), "resume_from": "org/adapter"}, "", "", {TOKEN}),
        ({"model": Model(id="/models/own"), "track": "trackio"}, "", "", set()),
        ({"model": Model(id="/models/own"), "track": "trackio"}, "me/s", "", {TOKEN, SPACE}),
        ({"model": Model(id="/models/own"), "track": "wandb"}, "me/s", "", set()),
    ],
)
def test_a_secret_goes_where_it_is_of_use(
    made: Plan, monkeypatch: pytest.MonkeyPatch, changed, space, bucket, along: set[str]
) -> None:
    for name, value in ((TOKEN, "hf_x"), (KEY, "x"), (SPACE, space)):
        monkeypatch.setenv(name, value)
    for name in (*starting.BUCKET_SECRETS[1:], "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    spec = made.candidates[0].spec
    assert spec is not None
    assert set(starting._secrets(msgspec.structs.replace(spec, **changed), bucket)) == along
