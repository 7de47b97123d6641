"""Results come home: collect, and the receipt that reconciles estimate and actual."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import Result, StepRecord, encode
from launcher.buckets import open_bucket
from launcher.errors import BadInput, OutsideFailed, on_disk, one_line
from launcher.events import Collected, Event, Measured
from launcher.executors import executor
from launcher.executors.managed import recoveries
from launcher.ledger import Ledger
from launcher.running import history
from launcher.running.climbs import climb_of, story
from launcher.running.clock import spent, utc_now
from launcher.running.finishing import IN_HAND_SECONDS
from launcher.running.measuring import measurement
from launcher.running.phases import phases
from launcher.running.reconciling import ledger, reconcile
from launcher.times import stamp
from launcher.types import CALIBRATION, Plan, Run, Story
from results.collect import CollectError, verify
from results.collect import collect as bring_home
from results.receipt import Line, Receipt
from results.records import read_result, records
from results.sums import sha256_of


def collect(run_id: str, store: Path | None = None) -> Path:
    """Bring an ended run home to its store, with plan, receipt, report and checksums.

    The working folder goes only when a succeeded run has arrived whole; one that ended early
    keeps it, to go on from. A run that is home already is verified, and copied when `store` is
    another place. Raises BadInput while the job is alive, OutsideFailed when the store cannot be
    written or what is there is not what was collected.
    """
    book = ledger()
    run = reconcile(book, book.run(run_id))
    _require_ended(run)
    place = store.absolute() if store is not None else Path(run.store)
    last = run.attempts[-1]
    runner = executor(last.executor)
    work = runner.folder(last.handle)
    if run.bucket and run.folder is None:  # it may have to come from there first
        work.mkdir(parents=True, exist_ok=True)
    if _is_to_collect(run, work):
        # another that collects, with all that it uploads, or one that starts a new attempt
        with runner.exclusive(last.handle, IN_HAND_SECONDS):
            run = book.run(run_id)
            _require_ended(run)
            history.fetch(run)
            if _is_to_collect(run, work):
                return _collect(book, run, work, place)
    return _from_home(book.run(run_id), None if store is None else place)


def _require_ended(run: Run) -> None:
    if not run.ended:
        raise BadInput(
            f"run {run.run_id} is {run.state}; collect it when it has ended, or cancel it"
        )


def _is_to_collect(run: Run, work: Path) -> bool:
    """Whether the working folder holds the run: an empty one, made by a late look, must not take
    the place of what is home."""
    return work.is_dir() and (run.folder is None or (work / layout.SPEC).is_file())


def run_folder(run: str) -> Path:
    """A collected run, by its folder or its id in the ledger."""
    folder = Path(run)
    if (folder / layout.SPEC).is_file():
        return folder.absolute()
    if os.sep in run:
        raise BadInput(
            f"{run} is no run's folder: it has no {layout.SPEC}; give one, or a run's id"
        )
    return collect(run).absolute()


def _collect(book: Ledger, run: Run, work: Path, place: Path) -> Path:
    made = book.plan(run.run_id)
    documents = _documents(book, run, made, work, export_folder(place / run.run_id))
    home = _bring(work, place, run.run_id, documents)
    measured = taken(run, made, home)
    book.append(run.run_id, stamp(utc_now()), *measured, Collected(folder=str(home)))
    if run.bucket and run.state == "SUCCEEDED":
        _to_bucket(run, home, documents)
    elif run.bucket:
        with contextlib.suppress(OutsideFailed):  # a ledger elsewhere would count it for longer
            history.keep(book, run)
    if run.state == "SUCCEEDED":
        with on_disk(f"the run is whole in {home}, and {work} cannot be removed"):
            _remove(work)
    return home


# A folder that has these was collected before, here or elsewhere.
_OF_A_COLLECTED = (layout.PLAN, layout.RECEIPT, layout.REPORT, layout.EVENTS)


def _documents(book: Ledger, run: Run, made: Plan, work: Path, export: Path) -> dict[str, bytes]:
    """What is written beside the job's files; those of a run that was collected elsewhere stay."""
    if all((work / name).is_file() for name in _OF_A_COLLECTED):
        return _documents_of(work)
    from launcher.display.reports import told  # these make nothing that a plan needs
    from results.report.documents import documents

    events = book.events(run.run_id)
    planned, lineage = book.plan_document(run.run_id), work / layout.LINEAGE
    account = msgspec.structs.replace(
        receipt(run, made, work, events),
        plan_sha256=sha256_of(planned),
        lineage_sha256=sha256_of(lineage) if lineage.is_file() else "",
    )
    known = told(made, run, events, _climb(book, run))
    try:
        report = documents(work, account, known, export)
    except Exception as error:  # what was trained and paid for comes home without it
        said = f"This report could not be made: {one_line(error)}\n"
        report = {layout.REPORT: f"{said}`launch report {run.run_id}` tries again.\n".encode()}
    return {
        layout.PLAN: planned,
        layout.RECEIPT: encode(account),
        layout.EVENTS: history.document(book, run.run_id),
        **report,
    }


def _climb(book: Ledger, run: Run) -> tuple[Story, ...]:
    """The run's climb as far as it has come with it."""
    return story(book, climb_of(book, run.run_id))


def _documents_of(folder: Path) -> dict[str, bytes]:
    names = [name for name in layout.DOCUMENTS if (folder / name).is_file()]
    return {name: (folder / name).read_bytes() for name in names}


def _to_bucket(run: Run, home: Path, documents: dict[str, bytes]) -> None:
    """The whole run stands in its bucket, brought there by its job's machine or from here."""
    from results import stored_run
    from results.stores import StoreError

    try:
        store = open_bucket(run.bucket)
        if stored_run.state(store, run.run_id) == "complete":
            stored_run.add(store, run.run_id, documents)
        else:
            stored_run.push(store, run.run_id, home)
    except StoreError as error:
        raise OutsideFailed(
            f"{error}\nthe run is whole in {home}; `launch collect {run.run_id}` brings it to "
            f"{run.bucket} later"
        ) from None


def taken(run: Run, made: Plan, folder: Path) -> tuple[Measured, ...]:
    """What the latest attempt measured; nothing where there is nothing to hold a plan against."""
    result = read_result(folder)
    if result is None:
        return ()
    last = run.attempts[-1]
    candidate = made.candidates[last.candidate]
    found = measurement(made.model.id, candidate, result, records(folder / layout.METRICS))
    return () if found is None else (Measured(attempt=last.attempt, measurement=found),)


def _bring(source: Path, place: Path, run_id: str, documents: dict[str, bytes]) -> Path:
    try:
        home = bring_home(source, place, run_id, documents)
        wrong = verify(home)
    except (OSError, CollectError) as error:
        raise OutsideFailed(
            f"run {run_id} cannot be collected to {place}: {error}\n"
            f"everything is still in {source}; mend that, then `launch collect {run_id}`"
        ) from None
    if wrong:
        raise OutsideFailed(f"{home} did not arrive whole: {wrong[0]}; all is in {source}")
    return home


def _remove(work: Path) -> None:
    """Gone in one step: a half-removed working folder must not be taken for a run."""
    aside = work.with_name(f".{work.name}.collected")
    shutil.rmtree(aside, ignore_errors=True)
    work.rename(aside)
    shutil.rmtree(aside)


def _from_home(run: Run, place: Path | None) -> Path:
    home = Path(run.folder) if run.folder else None
    if home is None or not home.is_dir():
        raise OutsideFailed(f"the files of run {run.run_id} are gone: {run.folder or run.store}")
    wrong = verify(home)
    if wrong:
        raise OutsideFailed(f"{home} is not what was collected: {'; '.join(wrong[:3])}")
    if place is None or place.resolve() == home.parent.resolve():
        return home
    return _bring(home, place, run.run_id, _documents_of(home))


def export_folder(home: Path) -> Path:
    """Where a run's export stands, beside it: its checksums keep the run itself closed."""
    return home.with_name(home.name + layout.EXPORT_SUFFIX)


def receipt(
    run: Run, made: Plan, folder: Path, events: Sequence[tuple[str, Event]] = ()
) -> Receipt:
    """Estimate against actual, over all attempts; `events` are the run's in the ledger."""
    used = made.candidates[run.attempts[-1].candidate]
    estimate = used.estimate
    assert estimate is not None, "what was started has an estimate"
    result = read_result(folder)
    hours, counted = _time(run, result, folder)
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
            actual=hours,
            note=counted,
        ),
    ]
    training = [t for t in estimate.time if t.name in ("training", CALIBRATION)]
    if training:
        lines.append(
            Line(
                name="of it training",
                unit="hours",
                planned=sum(t.expected_hours for t in training),
                planned_upper=sum(t.high_hours for t in training),
                actual=_training_hours(folder),
            )
        )
    cost = spent(run, utc_now())
    accounts = [a.account_microusd for a in run.attempts if a.account_microusd is not None]
    lines.append(
        Line(
            name="dollars",
            unit="microusd",
            planned=used.expected_microusd,
            planned_upper=used.worst_microusd,
            actual=cost,
            note=_metered(folder) if cost else "",
        )
    )
    return Receipt(
        run_id=run.run_id,
        state=run.state,
        reason=run.reason,
        provider=used.offer.provider,
        instance=used.offer.instance,
        attempts=len(run.attempts),
        max_cost_microusd=made.budget.max_cost_microusd,
        spent_microusd=cost,
        lines=tuple(lines),
        phases=phases(run.attempts[-1], events, records(folder / layout.METRICS), result),
        accounted_microusd=sum(accounts) if accounts else None,
    )


def _metered(folder: Path) -> str:
    """How the dollars were counted."""
    again = recoveries(folder)
    if again == 0:
        return "metered from machine times, in the units that are billed"
    return f"from request to end, {again} × recovered: waits between machines are counted too"


def _time(run: Run, result: Result | None, folder: Path) -> tuple[float, str]:
    """One attempt's own account of its phases; of several, the time their machines were held."""
    one_start = len(run.attempts) == 1 and recoveries(folder) == 0
    if one_start and result is not None and result.seconds_by_phase:
        seconds = sum(result.seconds_by_phase.values())
        return seconds / 3600, "the job, load to done"
    seconds = sum(attempt.seconds(utc_now()) for attempt in run.attempts)
    starts = len(run.attempts) + recoveries(folder)
    return seconds / 3600, f"{starts} starts, set-up included"


def _training_hours(folder: Path) -> float | None:
    """Training time of all attempts, as far as their steps were kept."""
    steps = [r for r in records(folder / layout.METRICS) if isinstance(r, StepRecord)]
    return steps[-1].seconds / 3600 if steps else None
