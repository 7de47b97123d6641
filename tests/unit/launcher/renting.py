"""Machines that are told for tests of climbs: plans, ledger and budgets are real; the executor has
no machine, and what SkyPilot would answer is told."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import GateResult, Result, encode
from launcher import api, climbing, paths
from launcher.events import MachineChanged, StateChanged
from launcher.executors.base import Order, Sight
from launcher.executors.claims import collecting
from launcher.ledger import Ledger
from launcher.recipes import Flags
from launcher.running import runs
from launcher.running.budgets import Project
from launcher.running.clock import spent, utc_now
from launcher.running.reconciling import ledger
from launcher.times import stamp
from launcher.types import Origin, Plan

CAP = 4.0
CARD = "L40S"  # alone: a plan over all cards takes three times as long
SETS = ("train", "validation")


class Rented:
    """An executor whose machines come at once and are seen no more."""

    poll_seconds = 0.0

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def handle(self, run_id: str, attempt: int) -> str:
        return f"rented:{run_id}"

    def folder(self, handle: str) -> Path:
        return paths.work_folder(handle.removeprefix("rented:"))

    def require_ready(self) -> None:
        pass

    def submit(self, handle: str, order: Order, say: Callable[[str], None]) -> None:
        order.require_wanted()
        self.orders.append(order)

    def account(self, handle: str) -> int | None:
        return None

    def clear(self, handle: str) -> None:
        pass

    def exclusive(self, handle: str, seconds: float) -> AbstractContextManager[None]:
        return collecting(self.folder(handle), seconds)

    def look(self, handle: str) -> Sight:
        return Sight(alive=True, started=True, result=None, billed=True)


def rent_from(runner: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever acts on a run asks this executor, whatever the ledger names."""
    for module in (
        "runs", "attempts", "resuming", "starting", "reconciling", "finishing", "watching",
    ):  # fmt: skip
        monkeypatch.setattr(f"launcher.running.{module}.executor", lambda name: runner)


@pytest.fixture
def runner(apart: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rented:
    found = Rented()
    rent_from(found, monkeypatch)
    monkeypatch.setattr(api, "ready", lambda made, *_: made)  # SkyPilot's prices are the lists'
    monkeypatch.chdir(tmp_path)
    for name in SETS:
        (tmp_path / f"{name}.jsonl").write_text(sample_rows(name, 60))
    return found


def sample_rows(name: str, count: int) -> str:
    """The sample job's first so many: a plan reads every row there is."""
    rows = (paths.job_code() / "sample" / f"{name}.jsonl").read_text().splitlines(keepends=True)
    return "".join(rows[:count])


def planned(*sets: str, gpu: str | None = CARD) -> Plan:
    job = ("gates=[{metric: exact_match, min: 0.9}]", *(f"data.{k}={k}.jsonl" for k in SETS), *sets)
    flags = Flags(strategy="qlora", max_cost=CAP, providers=("runpod", "aws"), gpu=gpu, sets=job)
    return api.plan(None, flags, run_id="climb", now=utc_now())


def first(project: Project | None = None, *sets: str, gpu: str | None = CARD) -> Plan:
    made = planned(*sets, gpu=gpu)
    runs.submit(made, "runs", lambda _: None, Origin(escalate="yes"), project)
    return made


def end(run_id: str, value: float, hours: float, reason: str | None = "GATE_FAILED") -> None:
    """The run is over, its machine gone after so long; its gates' metric came to `value`."""
    book = ledger()
    ago = stamp(utc_now() - timedelta(hours=hours))
    with book._transaction():
        book._db.execute("UPDATE attempts SET started_at = ? WHERE run_id = ?", (ago, run_id))
    gate = GateResult(metric="exact_match", min=0.9, max=None, value=value, passed=value >= 0.9)
    folder = paths.work_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    result = Result(run_id=run_id, status="success", gates=(gate,))
    (folder / layout.RESULT).write_bytes(encode(result))
    state = "SUCCEEDED" if reason in (None, "GATE_FAILED") else "FAILED"
    book.append(
        run_id,
        stamp(utc_now()),
        MachineChanged(attempt=1, state="GONE"),
        StateChanged(attempt=1, state=state, reason=reason),
    )


def ended_unseen(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's job has left failed gates and its machine has gone; the ledger has not heard."""
    gate = GateResult(metric="exact_match", min=0.9, max=None, value=0.87, passed=False)
    result = Result(run_id=run_id, status="success", gates=(gate,))
    folder = paths.work_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / layout.RESULT).write_bytes(encode(result))
    seen = Sight(alive=False, started=True, result=result, billed=False)
    monkeypatch.setattr(Rented, "look", lambda self, handle: seen)


def cost(book: Ledger, run_id: str) -> int:
    return spent(book.run(run_id), utc_now())


def climb_on(run_id: str = "climb") -> str:
    return climbing.go_on(climbing.next_of(run_id, lambda _: None), lambda _: None)
