"""`launch report`: about one run, several side by side, or all of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from jobs import layout
from launcher import api
from launcher.display.reports import told
from launcher.errors import BadInput, OutsideFailed
from launcher.planning.costs import bill_microusd
from launcher.running.climbs import climb_of, story
from launcher.running.collecting import collect, export_folder
from launcher.running.reconciling import ledger
from launcher.types import Plan, Run
from results.receipt import Receipt
from results.records import read_result
from results.report import html, markdown
from results.report.compare import Compared, compare_page
from results.report.overview import Entry, Spend, overview_page
from results.report.page import Page
from results.report.run_page import read, run_page
from results.report.words import short_device


def asked_for(run_ids: Sequence[str], *, compare: bool, every: bool, out: str | None) -> str:
    """The report as Markdown, and in `out` as HTML. Raises BadInput, OutsideFailed."""
    if every and (run_ids or compare):
        raise BadInput("--all is about all runs: it takes neither RUN nor --compare")
    if compare and len(set(run_ids)) < 2:
        raise BadInput("--compare needs at least two runs; `launch runs` lists them")
    if not every and not compare and len(run_ids) != 1:
        raise BadInput("give one RUN, several with --compare, or --all; `launch runs` lists them")
    place = Path(out).absolute() if out is not None else None
    page = every_run(place) if every else side_by_side(run_ids) if compare else one(run_ids[0])
    if place is not None:
        _write(place, html.render(page))
    return markdown.render(page)


def one(run_id: str) -> Page:
    """As it was collected, and with what has come to stand beside the run since: its export."""
    home = collect(run_id)
    book = ledger()
    climb = story(book, climb_of(book, run_id))
    known = told(book.plan(run_id), book.run(run_id), book.events(run_id), climb)
    return run_page(read(home, export_folder(home)), _receipt(home), known)


def side_by_side(run_ids: Sequence[str]) -> Page:
    book = ledger()
    runs = []
    for run_id in dict.fromkeys(run_ids):
        home = collect(run_id)
        gpu = _gpu(book.plan(run_id), book.run(run_id))
        runs.append(Compared(files=read(home), receipt=_receipt(home), gpu=gpu))
    return compare_page(runs)


def every_run(out: Path | None) -> Page:
    """`out` is where the page will stand: its links to the runs' own pages begin there."""
    book = ledger()
    return overview_page([_entry(run, book.plan(run.run_id), out) for run in api.runs()])


def _entry(run: Run, made: Plan, out: Path | None) -> Entry:
    now = api.utc_now()
    spent = (
        Spend(at=a.started_at, microusd=bill_microusd(a, a.seconds(now))) for a in run.attempts
    )
    return Entry(
        run_id=run.run_id,
        state=run.state,
        reason=run.reason if run.reason and run.reason != run.state else "",
        started=run.created_at,
        model=Path(made.model.id).name,
        strategy=made.job.strategy,
        where=f"{run.attempts[-1].provider} {_gpu(made, run)}" if run.attempts else "",
        gates=_gates(run),
        spent=tuple(spent),
        page=_link(run, out),
    )


def _gates(run: Run) -> str:
    """How many of how many gates passed."""
    result = read_result(Path(run.folder)) if run.folder else None
    if result is None or not result.gates:
        return ""
    return f"{sum(gate.passed for gate in result.gates)} of {len(result.gates)} passed"


def _link(run: Run, out: Path | None) -> str:
    page = Path(run.folder) / layout.REPORT_PAGE if run.folder else None
    if page is None or not page.is_file():
        return ""
    return page.as_uri() if out is None else quote(os.path.relpath(page, out.parent))


def _gpu(made: Plan, run: Run) -> str:
    if not run.attempts:
        return ""
    return short_device(made.candidates[run.attempts[-1].candidate].offer.device_name)


def _receipt(home: Path) -> Receipt:
    return msgspec.json.decode((home / layout.RECEIPT).read_bytes(), type=Receipt)


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutsideFailed(f"--out {place} cannot be written: {error}") from None
