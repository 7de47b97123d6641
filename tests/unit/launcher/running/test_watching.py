"""Where a run's files are said to be."""

from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import encode
from launcher import paths
from launcher.events import Collected
from launcher.running.clock import utc_now
from launcher.running.reconciling import ledger
from launcher.running.watching import run_folder, status
from launcher.times import stamp
from results.receipt import Receipt
from tests.unit.launcher.renting import Rented, end, first, runner

__all__ = ["runner"]  # the fixture


def test_what_was_collected_is_told_though_what_failed_may_go_on(
    runner: Rented, tmp_path: Path
) -> None:
    first()
    end("climb", 0.5, 0.1, "CANCELLED")
    work, home = paths.work_folder("climb"), tmp_path / "runs" / "climb"
    assert status("climb").folder == str(work)
    home.mkdir(parents=True)
    account = Receipt(
        run_id="climb", state="FAILED", reason="CANCELLED", provider="runpod", instance="i",
        attempts=1, max_cost_microusd=None, spent_microusd=0, lines=(),
    )  # fmt: skip
    (home / layout.RECEIPT).write_bytes(encode(account))
    ledger().append("climb", stamp(utc_now()), Collected(folder=str(home)))
    assert work.is_dir()
    assert status("climb").folder == str(home)
    run = ledger().run("climb")
    again = msgspec.structs.replace(run, attempts=(*run.attempts, run.attempts[-1]))
    assert run_folder(again) == work  # nobody has collected that attempt
