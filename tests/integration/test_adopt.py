"""`launch adopt s3://...`: a run that one machine launches is found by others, through its bucket.

The bucket is a real server's, the job's sync the real one beside a folder that is written as a job
writes it; each machine has a ledger of its own, and none has SkyPilot."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import PhaseRecord
from launcher import paths
from launcher.catalog.refresh import VARIABLE
from launcher.errors import OutsideFailed
from launcher.events import AttemptStarted, RunCreated, StateChanged
from launcher.ledger import Ledger
from launcher.running import history
from launcher.running.adopting import adopt
from launcher.running.clock import clock_of, spent
from launcher.running.collecting import collect
from launcher.running.watching import status
from launcher.times import stamp
from launcher.types import Budget, Plan
from results.collect import verify
from results.stored_run import StoredRun
from results.stores import open_store
from tests.fixtures.working_folder import begin, finish
from tests.integration.test_stores import Syncs, client_python, server, sync, url
from tests.integration.waiting import wait_for
from tests.servers.seaweedfs import BUCKET, SeaweedFS
from tests.unit.launcher.conftest import offer, small_plan

__all__ = ["client_python", "offer", "server", "small_plan", "sync", "url"]

BEGAN = datetime.now(UTC) - timedelta(hours=2)
RATE = 740_000  # micro-dollars an hour, and the cap


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ledger]:
    """The ledger and the working folder of one machine or another, used from then on."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no SkyPilot"))

    def used(machine: str) -> Ledger:
        (tmp_path / machine).mkdir(exist_ok=True)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / machine / "state"))
        monkeypatch.chdir(tmp_path / machine)
        return Ledger(paths.ledger_file())

    return used


def launched(book: Ledger, plan: Plan, url: str, began: datetime) -> Plan:
    """A run of a rented machine, as `launch --store` leaves it when the machine is asked for."""
    (chosen, *_) = plan.candidates
    dated = msgspec.structs.replace(chosen.offer, as_of=began.date().isoformat())
    made = msgspec.structs.replace(
        plan,
        created_at=stamp(began),
        budget=Budget(max_cost_microusd=RATE),
        candidates=(msgspec.structs.replace(chosen, offer=dated),),
    )
    attempt = AttemptStarted(
        attempt=1,
        executor="skypilot",
        handle="skypilot:loralift-run-1-1",
        provider="runpod",
        instance="1x_RTX4090_SECURE",
        microusd_per_hour=RATE,
    )
    created = RunCreated(plan=made, store=str(Path("runs").absolute()), bucket=url)
    asked = StateChanged(attempt=1, state="PROVISIONING")
    book.append("run-1", stamp(began), created, attempt, asked)
    history.keep(book, book.run("run-1"))
    return made


def at_work(folder: Path, at: datetime) -> Path:
    begin(folder)
    record = PhaseRecord(at=stamp(at), phase="train")
    (folder / layout.METRICS).write_bytes(msgspec.json.encode(record) + b"\n")
    return folder


def test_a_run_at_work_is_followed_from_elsewhere_and_its_machine_is_unknown(
    on: Callable[[str], Ledger], small_plan: Plan, url: str, sync: Syncs, tmp_path: Path
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=10)
    made = launched(on("there"), small_plan, url, began)
    work = at_work(tmp_path / "work", began)
    finish(work)
    (work / layout.RESULT).unlink()  # still at work
    syncing = sync.start(work)
    book = on("here")
    looked_at = {layout.METRICS, layout.LOG}
    wait_for(lambda: looked_at <= set(StoredRun(open_store(url), "run-1").names()))
    (found,) = adopt(url)
    syncing.kill()
    assert (found.run_id, found.outcome) == ("run-1", "adopted")
    assert "partial; its machine is UNKNOWN" in found.said
    assert book.plan("run-1") == made
    run = book.run("run-1")
    assert (run.bucket, run.store) == (url, str(tmp_path / "here" / "runs"))
    view = status("run-1")
    paid_until = clock_of(made, run).paid_until
    assert f"until {paid_until:%Y-%m-%d %H:%M:%S}" in view.unseen
    assert isinstance(view.last, PhaseRecord)
    assert view.log_tail.startswith("loading")
    assert view.run.attempts[0].machine == "UNKNOWN"
    with pytest.raises(OutsideFailed, match="may be there, and cost money"):
        collect("run-1")


def test_a_run_that_another_tool_copied_is_held_to_its_hashes_by_content(
    on: Callable[[str], Ledger],
    small_plan: Plan,
    url: str,
    sync: Syncs,
    server: SeaweedFS,
    tmp_path: Path,
) -> None:
    launched(on("there"), small_plan, url, BEGAN)
    work = at_work(tmp_path / "work", BEGAN + timedelta(minutes=30))
    finish(work)
    assert sync(work)[0] == 0
    client, copy = server.client(), f"{url}-copy"
    start = url.removeprefix(f"s3://{BUCKET}/")
    for key in open_store(url).sizes("run-1/"):
        content = client.get_object(Bucket=BUCKET, Key=f"{start}/{key}")["Body"].read()
        client.put_object(Bucket=BUCKET, Key=f"{start}-copy/{key}", Body=content)

    on("here")
    (found,) = adopt(copy)
    assert "complete" in found.said
    assert verify(collect("run-1")) == []


def test_a_finished_run_comes_home_here_and_is_the_same_on_a_third_machine(
    on: Callable[[str], Ledger], small_plan: Plan, url: str, sync: Syncs, tmp_path: Path
) -> None:
    launched(on("there"), small_plan, url, BEGAN)
    over = BEGAN + timedelta(minutes=30)
    work = at_work(tmp_path / "work", over)
    finish(work)
    code, said = sync(work)
    assert code == 0, said

    book = on("here")
    (found,) = adopt(url)
    assert "complete" in found.said
    home = collect("run-1")
    assert home == tmp_path / "here" / "runs" / "run-1"
    assert verify(home) == []
    assert (home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    run, made = book.run("run-1"), book.plan("run-1")
    assert (run.state, run.attempts[0].machine) == ("SUCCEEDED", "GONE")
    due = clock_of(made, run)
    assert run.attempts[0].gone_at == stamp(over + (due.paid_until - due.stop_at))
    assert [a.outcome for a in adopt(url)] == ["known"]

    third = on("third")
    sums = StoredRun(open_store(url), "run-1").sums()
    assert sums is not None
    assert {layout.PLAN, layout.RECEIPT, layout.EVENTS} <= sums.keys()
    (found,) = adopt(f"{url}/run-1")
    assert found.said.startswith("SUCCEEDED, $0.")
    assert "UNKNOWN" not in found.said
    again = collect("run-1")
    assert (again / layout.RECEIPT).read_bytes() == (home / layout.RECEIPT).read_bytes()
    assert spent(third.run("run-1"), BEGAN) == spent(run, BEGAN)
    assert StoredRun(open_store(url), "run-1").sums() == sums


def test_an_object_that_is_not_what_was_put_there_is_named(
    on: Callable[[str], Ledger],
    small_plan: Plan,
    url: str,
    sync: Syncs,
    server: SeaweedFS,
    tmp_path: Path,
) -> None:
    launched(on("there"), small_plan, url, BEGAN)
    work = at_work(tmp_path / "work", BEGAN)
    finish(work)
    assert sync(work)[0] == 0
    key = f"{url.removeprefix(f's3://{BUCKET}/')}/run-1/{layout.LOG}"
    server.client().put_object(Bucket=BUCKET, Key=key, Body=b"another log")
    book = on("here")
    (found,) = adopt(url)
    assert found.outcome == "refused"
    assert found.said == "it is not what was collected: job.log has changed"
    assert book.runs() == []
