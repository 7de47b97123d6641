"""Results come home: collect, and the receipt that reconciles estimate and actual."""

import shutil
from pathlib import Path

from jobs import layout
from jobs.spec import Result, encode
from launcher.display import offers_table
from launcher.errors import BadInput, OutsideFailed
from launcher.executors import executor
from launcher.ledger import Collected
from launcher.runs import ledger, read_result, reconcile, require_choice, spent, stamp, utc_now
from launcher.types import Plan, Run
from results.collect import CollectError, verify
from results.collect import collect as bring_home
from results.receipt import Line, Receipt
from results.report import render


def collect(run_id: str, store: Path | None = None) -> Path:
    """Bring an ended run home to its store, with plan, receipt, report and checksums.

    The working folder goes only when a succeeded run has arrived whole; one that ended early
    keeps it, to go on from. Raises BadInput while the job is alive, OutsideFailed when the store
    cannot be written.
    """
    book = ledger()
    run = reconcile(book, book.run(run_id))
    if not run.ended:
        raise BadInput(f"run {run_id} is {run.state}; collect it when it has ended, or cancel it")
    last = run.attempts[-1]
    work = executor(last.executor).folder(last.handle)
    if not work.is_dir():
        return _already_home(run)
    made = book.plan(run_id)
    account = receipt(run, made, read_result(work))
    documents = {layout.PLAN: encode(made), layout.RECEIPT: encode(account)}
    documents[layout.REPORT] = render(work, account, offers_table(made)).encode()
    place = store.absolute() if store is not None else Path(run.store)
    try:
        home = bring_home(work, place, run_id, documents)
        wrong = verify(home)
    except (OSError, CollectError) as error:
        raise OutsideFailed(
            f"run {run_id} cannot be collected to {place}: {error}; everything is still in {work}. "
            f"Mend that, then `launch collect {run_id}`"
        ) from None
    if wrong:
        raise OutsideFailed(
            f"run {run_id} did not arrive whole in {home}: {wrong[0]}; it is in {work}"
        )
    book.append(run_id, stamp(utc_now()), Collected(folder=str(home)))
    if run.state == "SUCCEEDED":
        shutil.rmtree(work)
    return home


def _already_home(run: Run) -> Path:
    home = Path(run.folder) if run.folder else None
    if home is None or not home.is_dir():
        raise OutsideFailed(f"the files of run {run.run_id} are gone: {run.folder or run.store}")
    wrong = verify(home)
    if wrong:
        raise OutsideFailed(f"{home} is not what was collected: {'; '.join(wrong[:3])}")
    return home


def receipt(run: Run, made: Plan, result: Result | None) -> Receipt:
    """Estimate against actual, over all attempts."""
    chosen = require_choice(made)
    estimate = chosen.estimate
    assert estimate is not None, "a chosen candidate has an estimate"
    phases = result.seconds_by_phase if result is not None else {}
    training = next((t for t in estimate.time if t.name == "training"), None)
    cost = spent(run, utc_now())
    lines = [
        Line(
            name="memory",
            unit="bytes",
            planned=estimate.memory_expected_bytes,
            planned_upper=estimate.memory_upper_bytes,
            actual=(result.peak_memory_bytes or None) if result is not None else None,
            note=result.memory_metric if result is not None else "",
        ),
        Line(
            name="time",
            unit="hours",
            planned=estimate.hours_expected,
            planned_upper=estimate.hours_high,
            actual=sum(phases.values()) / 3600 if phases else None,
            note="the job, load to done",
        ),
        Line(
            name="dollars",
            unit="microusd",
            planned=chosen.expected_microusd,
            planned_upper=chosen.worst_microusd,
            actual=cost,
            note="metered from machine times" if cost else "",
        ),
    ]
    if training is not None:
        lines.insert(
            2,
            Line(
                name="of it training",
                unit="hours",
                planned=training.expected_hours,
                planned_upper=training.high_hours,
                actual=phases["train"] / 3600 if "train" in phases else None,
            ),
        )
    return Receipt(
        run_id=run.run_id,
        state=run.state,
        reason=run.reason,
        provider=chosen.offer.provider,
        instance=chosen.offer.instance,
        attempts=len(run.attempts),
        max_cost_microusd=made.budget.max_cost_microusd,
        spent_microusd=cost,
        lines=tuple(lines),
    )
