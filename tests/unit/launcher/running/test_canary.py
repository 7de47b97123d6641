"""The parts of a canary: the ledger and the working folder are real, the clock is turned by who
waits, and the rented machine does what its test tells it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from jobs import layout
from jobs.spec import Failure, Result, encode
from launcher import paths
from launcher.catalog.refresh import VARIABLE
from launcher.display.canary import canary_text
from launcher.errors import BadInput, NoCapacity
from launcher.events import MachineChanged
from launcher.executors import executor
from launcher.executors.base import Order, Sight
from launcher.ledger import Ledger
from launcher.planning.canary import PARTS, CanaryReceipt
from launcher.running.canary.proving import JSON, TEXT, prove
from launcher.running.clock import clock_of
from launcher.types import MICROUSD, Budget, Plan, Run
from results.collect import verify
from tests.unit.launcher.planning.test_canary import timed

STARTED = datetime(2026, 11, 21, 12, tzinfo=UTC)
DONE = Result(run_id="x", status="success", adapter="adapter", steps=342)
ENDED = Result(
    run_id="x", status="error", failure=Failure(reason="DEADLINE", message="it has passed")
)
MODULES = (
    "clock", "runs", "attempts", "resuming", "reconciling", "finishing", "collecting", "watching",
    "starting", "next_offer",
)  # fmt: skip
ACTING = ("acts", "halting", "proving")
UP_SECONDS = 90.0


class World:
    """What time it is, and the machine that was rented: the executor, and SkyPilot's calls."""

    poll_seconds = 3.0

    def __init__(self) -> None:
        self.now = STARTED
        self.asked: list[str] = []
        self.looked_at: list[float] = []
        self.there = False
        self.at_work = True
        self.started_at = STARTED
        self.gone_after: float | None = None  # seconds from its start, by itself
        self.submits: Callable[[], None] = lambda: None
        self.sleeps: Callable[[], None] = lambda: None
        self.finishes = False
        self.late = False
        self.halted = '{"killed": " 7", "halted": " 8 9", "moving": ""}'

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=max(seconds, 0.001))
        self.sleeps()

    @property
    def is_there(self) -> bool:
        age = (self.now - self.started_at).total_seconds()
        return self.there and (self.gone_after is None or age < self.gone_after)

    # --- the executor --------------------------------------------------------------------------

    def handle(self, run_id: str, attempt: int) -> str:
        return f"skypilot:{run_id}"

    def folder(self, handle: str) -> Path:
        return paths.work_folder(handle.partition(":")[2])

    def require_ready(self) -> None: ...

    def clear(self, handle: str) -> None: ...

    def exclusive(self, handle: str, seconds: float):
        from launcher.executors.claims import collecting

        return collecting(self.folder(handle), seconds)

    def submit(self, handle: str, order: Order, say: Callable[[str], None]) -> None:
        self.asked.append(f"submit {handle}")
        self.submits()
        self.folder(handle).mkdir(parents=True)
        (self.folder(handle) / layout.LOG).write_text("at work\n")
        assert order.task is not None
        assert "LORALIFT_DEADLINE" in order.task
        self.there, self.started_at = True, self.now
        self.sleep(UP_SECONDS)

    def look(self, handle: str) -> Sight:
        self.asked.append(f"look {handle}")
        self.looked_at.append((self.now - self.started_at).total_seconds())
        over = self.finishes or not self.at_work
        result = DONE if self.finishes else None
        if self.late and self.looked_at[-1] > UP_SECONDS:
            self.now += timedelta(seconds=70)
            over, result = True, ENDED
        if not self.is_there:
            gone = self.started_at + timedelta(seconds=self.gone_after or 0)
            return Sight(
                alive=False, started=False, result=None, billed=False, gone_at=gone.isoformat()
            )
        return Sight(alive=not over, started=True, result=result, billed=True)

    def stop(self, handle: str, why: Failure | None = None) -> None:
        self.asked.append(f"stop {handle}")

    def bring(self, handle: str, until: datetime) -> None:
        folder = self.folder(handle)
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
        (folder / layout.RESULT).write_bytes(encode(DONE))

    def release(self, handle: str) -> None:
        self.asked.append(f"release {handle}")
        self.there = False

    def account(self, handle: str) -> int | None:
        return 90_000

    # --- SkyPilot's calls ----------------------------------------------------------------------

    def __call__(self, call: str, *, cluster: str, **_: object) -> object:
        self.asked.append(f"{call} {cluster}")
        if call == "status":
            up = self.is_there
            return {"cluster": "UP" if up else None, "job": "RUNNING" if up else None}
        if call == "run":
            return [0, f"a login's greeting\n{self.halted}\n"]
        return {"usd": 0.09, "seconds": 1, "until": None, "region": "EU-RO-1"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    found = World()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no python"))
    monkeypatch.setattr("time.sleep", found.sleep)
    for module in (*(f"running.{m}" for m in MODULES), "guard"):
        monkeypatch.setattr(f"launcher.{module}.utc_now", lambda: found.now)
    for module in ACTING:
        monkeypatch.setattr(f"launcher.running.canary.{module}.utc_now", lambda: found.now)
    monkeypatch.setattr("launcher.running.canary.proving.Calls", lambda: found)
    module = SimpleNamespace(SkyPilotExecutor=lambda: found)
    monkeypatch.setattr("launcher.executors.import_module", lambda name: module)
    executor.cache_clear()
    yield found
    executor.cache_clear()


@pytest.fixture
def plan(small_plan: Plan) -> Plan:
    (chosen, *_) = small_plan.candidates
    return msgspec.structs.replace(
        small_plan,
        run_id="canary-1",
        created_at=STARTED.isoformat(),
        budget=Budget(max_cost_microusd=MICROUSD, max_hours=2.0, collect_minutes=1),
        candidates=(timed(chosen, 720_000, "1x_RTX4090_SECURE"),),
    )


@pytest.fixture
def proved(plan: Plan, tmp_path: Path) -> Callable[..., CanaryReceipt]:
    return lambda *names: prove(plan, names, tmp_path / "runs", lambda line: None)


def run_of(part: str) -> Run:
    return Ledger(paths.ledger_file()).run(f"canary-1-{part}")


def test_a_machine_that_goes_after_its_jobs_deadline_is_proved_and_nobody_told_it(world, proved):
    world.gone_after = 435 + 100
    receipt = proved("machine")
    (part,) = receipt.parts
    assert (receipt.verdict, part.verdict) == ("proved", "proved"), part.found
    run = run_of("machine")
    assert not any(word.startswith(("release", "stop")) for word in world.asked)
    assert world.looked_at[:2] == pytest.approx(
        [90, 375], abs=1
    )  # handed over, before its deadline
    assert (run.state, run.attempts[0].machine) == ("FAILED", "GONE")
    assert part.spent_microusd == 720_000 * (435 + 100) // 3600 <= part.cap_microusd
    assert (part.region, part.accounted_microusd) == ("EU-RO-1", 90_000)


def test_the_receipt_that_is_kept_is_the_one_that_is_returned(world, proved, tmp_path, monkeypatch):
    def later() -> datetime:
        world.sleep(1.0)
        return world.now

    world.finishes = True
    monkeypatch.setattr("launcher.running.canary.proving.utc_now", later)
    receipt = proved("receipt")
    folder = tmp_path / "runs" / "canary-1"
    assert msgspec.json.decode((folder / JSON).read_bytes(), type=CanaryReceipt) == receipt
    assert (folder / TEXT).read_text() == canary_text(receipt)


def test_a_machine_that_stays_is_not_and_is_ended(world, proved):
    part = proved("machine").parts[0]
    assert part.verdict == "failed"
    assert "was still there at 12:12:50" in part.found  # three minutes before the cap
    assert world.asked.count("release skypilot:canary-1-machine") == 1
    assert run_of("machine").attempts[0].machine == "GONE"
    assert part.spent_microusd <= part.cap_microusd


def test_a_look_that_comes_back_after_the_deadline_finds_what_it_has_ended(world, proved):
    """On a busy machine one took longer than was thought."""
    world.gone_after = 435 + 100
    world.late = True
    part = proved("machine").parts[0]
    assert part.verdict == "proved", part.found
    assert part.found.startswith("its job was at work at its deadline")


def test_a_job_that_ended_by_itself_proves_nothing(world, proved):
    world.at_work = False
    part = proved("machine").parts[0]
    assert part.verdict == "failed"
    assert "ended before the deadline" in part.found
    assert not world.there


def test_what_another_guard_has_ended_is_no_proof(world, proved):
    def guard() -> None:
        if (world.now - STARTED).total_seconds() > 440 and world.there:
            book = Ledger(paths.ledger_file())
            at = world.now.isoformat()
            book.append("canary-1-machine", at, MachineChanged(attempt=1, state="ENDING"))
            world.there = False

    world.sleeps = guard
    part = proved("machine").parts[0]
    assert part.verdict == "failed"
    assert "another launcher or `launch guard`" in part.found


def test_a_halted_machine_is_ended_by_the_guard_within_the_cap(world, proved):
    part = proved("guard").parts[0]
    assert part.verdict == "proved", part.found
    assert part.found.startswith("the watchdog was killed, the 2 processes of its job were halted")
    assert "ended from here at 12:12:" in part.found
    run = run_of("guard")
    assert (run.state, run.reason) == ("FAILED", "BUDGET_EXCEEDED")
    assert "stop skypilot:canary-1-guard" in world.asked  # the guard's first step
    assert part.spent_microusd <= part.cap_microusd
    due = clock_of(Ledger(paths.ledger_file()).plan(run.run_id), run)
    assert datetime.fromisoformat(run.attempts[0].gone_at or "") >= due.end_at


def test_a_halted_machine_that_goes_by_itself_is_no_proof_of_the_guard(world, proved):
    world.gone_after = 500
    part = proved("guard").parts[0]
    assert part.verdict == "failed"
    assert "had ended before the guard had to act" in part.found


def test_what_cannot_be_halted_is_no_proof(world, proved):
    world.halted = '{"killed": " 7", "halted": " 8 9", "moving": " 9"}'
    part = proved("guard").parts[0]
    assert (part.verdict, "could not be halted:  9" in part.found) == ("failed", True)
    assert not world.there


def test_the_sample_job_comes_home(world, proved, tmp_path):
    world.finishes = True
    part = proved("receipt").parts[0]
    assert part.verdict == "proved", part.found
    assert part.found.startswith("trained 342 steps")
    assert verify(Path(part.folder)) == []
    kept = tmp_path / "runs" / "canary-1"
    assert Path(part.folder).parent == kept
    written = msgspec.json.decode((kept / "canary.json").read_bytes(), type=CanaryReceipt)
    assert written.parts == (part,)
    text = (kept / "canary.txt").read_text()
    assert "canary canary-1 on RunPod: proved" in text
    assert "runpod EU-RO-1 1x_RTX4090_SECURE RTX4090" in text


def test_after_a_part_that_is_not_proved_nothing_is_rented(world, proved):
    def refuse() -> None:
        raise NoCapacity("RTX4090 on RunPod: none left\ntry again later")

    world.submits = refuse
    receipt = proved(*PARTS)
    assert [part.verdict for part in receipt.parts] == ["outside failed", "not run", "not run"]
    assert receipt.verdict == "outside failed"
    assert "none left" in receipt.parts[0].found
    assert [word for word in world.asked if word.startswith("submit")] == [
        "submit skypilot:canary-1-receipt"
    ]


def test_what_can_never_be_started_is_bad_input_not_a_proof(world, proved, tmp_path):
    (tmp_path / "runs" / "canary-1" / "canary-1-receipt").mkdir(parents=True)
    with pytest.raises(BadInput, match="exists already"):
        proved("receipt")
    assert world.asked == []


def test_parts_stay_where_a_machine_was_found_while_the_cap_pays_for_them(
    world, plan, tmp_path, monkeypatch
):
    """The cheap offer has none; on the dear one the first part takes 24 minutes."""
    same_price = "launcher.running.next_offer.rentable"
    monkeypatch.setattr(same_price, lambda candidate, budget, asking: candidate)
    (dear,) = plan.candidates
    cheap = timed(dear, 360_000, "cheap")
    plan = msgspec.structs.replace(
        plan,
        budget=msgspec.structs.replace(plan.budget, max_cost_microusd=620_000),
        candidates=(cheap, msgspec.structs.replace(dear, verdict="possible")),
    )
    world.finishes = True
    asked = []

    def cheap_has_none() -> None:
        asked.append(world.now)
        if len(asked) == 1:
            raise NoCapacity("none left")
        world.now += timedelta(minutes=24)

    world.submits = cheap_has_none
    receipt = prove(plan, tuple(PARTS), tmp_path / "runs", lambda line: None)
    assert [part.verdict for part in receipt.parts] == ["proved", "over budget", "not run"]
    assert receipt.parts[0].instance == "1x_RTX4090_SECURE"
    assert receipt.verdict == "over budget"
    assert receipt.parts[1].found.startswith("what is to come needs $0.38 at worst, and $0.3")
    assert receipt.spent_microusd <= 620_000


def test_a_part_that_took_more_than_its_cap_is_no_proof(world, proved):
    world.finishes = True

    def slow() -> None:
        world.now += timedelta(hours=1)

    world.submits = slow
    receipt = proved(*PARTS)
    assert [part.verdict for part in receipt.parts] == ["failed", "not run", "not run"]
    assert "it took more than its cap" in receipt.parts[0].found
    assert receipt.verdict == "failed"


def test_an_interrupt_ends_the_machine_first(world, proved):
    def interrupt() -> None:
        if world.there and (world.now - world.started_at).total_seconds() > 200:
            raise KeyboardInterrupt

    world.sleeps = interrupt
    with pytest.raises(KeyboardInterrupt):
        proved("machine")
    run = run_of("machine")
    assert (run.state, run.attempts[0].machine) == ("CANCELLED", "GONE")
    assert world.asked[-1] == "release skypilot:canary-1-machine"
