"""Several jobs under one cap, through the real command, ledger and process executor, by jobs that
end as they are told."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from jobs import layout
from results.records import is_held
from tests.integration.test_climb import PRICED, Told
from tests.integration.waiting import wait_for

SWEEP = ("sample", "--sweep", "lora.r=2,4,8", "--set", "gates=[{metric: exact_match, min: 0.9}]")


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def ended(receipt: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(one["what"], one["state"], one["reason"]) for one in receipt["members"]]


def recipe(told: Told, name: str, strategy: str, rank: int) -> str:
    path = told.folder / f"{name}.yaml"
    sample = (Path(__file__).parents[2] / "jobs" / "sample" / "train.jsonl").resolve()
    path.write_text(
        f"name: {name}\nmodel: HuggingFaceTB/SmolLM2-135M\ndata: {sample}\nstrategy: {strategy}\n"
        f"lora: {{r: {rank}}}\ngates: [{{metric: exact_match, min: 0.9}}]\n"
    )
    return str(path)


def test_one_that_fails_does_not_stop_the_others(told: Told) -> None:
    told.outcomes(qlora_2="ERROR", qlora_4=0.95, qlora_8=0.5)
    done = told(*SWEEP, "--run-id", "ranks", "--json")
    receipt = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert ended(receipt) == [
        ("lora.r=2", "FAILED", "ERROR"),
        ("lora.r=4", "SUCCEEDED", None),
        ("lora.r=8", "SUCCEEDED", "GATE_FAILED"),
    ]
    assert [one["runs"] for one in receipt["members"]] == [1, 1, 1]  # a sweep's do not climb
    assert json.loads((told.folder / "runs" / "ranks" / "portfolio.json").read_text()) == receipt
    for number in (1, 2, 3):
        assert (told.folder / "runs" / f"ranks-{number}" / layout.RECEIPT).is_file()
    assert receipt["best"] == "ranks-2"
    (marked,) = (line for line in told("status", "ranks").stdout.splitlines() if line[0] == "→")
    assert marked.split()[1:3] == ["ranks-2", "lora.r=4"]


def test_recipes_climb_each_under_the_one_cap(told: Told) -> None:
    told.outcomes(qlora_4=0.5, lora_4=0.95, qlora_8=0.95)
    named = [recipe(told, "tone", "qlora", 4), recipe(told, "facts", "qlora", 8)]
    done = told(*named, *PRICED, "--max-cost", "100", "--yes", "--json", "--run-id", "filters")
    receipt = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [(one["run_id"], one["runs"]) for one in receipt["members"]] == [
        ("filters-1-tone-2", 2),
        ("filters-2-facts", 1),
    ]
    runs = told.runs()
    spent = [
        json.loads((told.folder / "runs" / run / layout.RECEIPT).read_text())["spent_microusd"]
        for run in runs
    ]
    assert len(runs) == 3
    assert receipt["spent_microusd"] == sum(spent) > 0


def test_what_the_cap_does_not_hold_any_more_is_not_begun(told: Told) -> None:
    told.outcomes(qlora=0.95)
    told.seconds = 4.0
    planned = json.loads(told(*SWEEP, *PRICED, "--max-cost", "900", "--dry-run", "--json").stdout)
    worst = planned["members"][0]["plan"]["candidates"][0]["worst_microusd"] / 1e6
    # enough for one at worst; the first one takes four cents and more of it
    done = told(*SWEEP, *PRICED, "--max-cost", f"{worst + 0.01:.2f}", "--yes", "--json")
    receipt = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    assert ended(receipt)[0] == ("lora.r=2", "SUCCEEDED", None)
    assert [one["phase"] for one in receipt["members"]] == ["over", "skipped", "skipped"]
    assert all("cap" in one["said"] for one in receipt["members"][1:])
    assert receipt["spent_microusd"] <= receipt["cap_microusd"]


def test_a_plan_in_which_one_fits_nowhere_says_so_in_its_exit(told: Told) -> None:
    swept = ("sample", "--sweep", "train.epochs=1,100000", *PRICED, "--max-cost", "20")
    done = told(*swept, "--dry-run", "--json")
    assert done.returncode == 3
    assert "1 of 2 fit nowhere" in done.stderr
    first, second = json.loads(done.stdout)["members"]
    assert first["plan"]["candidates"][0]["verdict"] == "chosen"
    assert second["plan"]["candidates"][0]["verdict"] == "rejected"


def test_a_killed_launcher_s_portfolio_is_gone_on_with(told: Told) -> None:
    told.outcomes(qlora=0.95)
    with told.held():
        first = told.start(*SWEEP, "--run-id", "ranks")
        wait_for(lambda: "ranks-1" in told.runs())
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert "ranks: goes on with its jobs" in told("guard").stdout
        wait_for(lambda: is_held(told.folder / "state" / "loralift" / "climbs" / "ranks.lock"))
        again = told("--run-id", "ranks", "--json")  # one of them is at it
        assert again.returncode == 2
        assert "another launcher sees ranks through" in again.stderr
    wait_for(lambda: (told.folder / "runs" / "ranks" / "portfolio.json").exists())
    receipt = json.loads(told("status", "ranks", "--json").stdout)
    assert {one["state"] for one in receipt["members"]} == {"SUCCEEDED"}
    assert [run["attempts"][0]["attempt"] for run in told.runs().values()] == [1, 1, 1]


def test_cancel_ends_what_is_under_way_and_begins_no_more(told: Told) -> None:
    told.outcomes(qlora=0.95)
    with told.held():
        first = told.start(*SWEEP, "--run-id", "ranks")
        told.until_at_work("ranks-1")
        cancelled = told("cancel", "ranks")
        assert cancelled.returncode == 0, cancelled.stderr
        _, said = first.communicate(timeout=300)
    assert first.returncode != 0, said
    receipt = json.loads(told("status", "ranks", "--json").stdout)
    assert receipt["stopped"] == "cancelled"
    assert [one["phase"] for one in receipt["members"]] == ["over", "waiting", "waiting"]
    # this job leaves no result: whoever sees its end first says what it was
    assert receipt["members"][0]["state"] in ("CANCELLED", "FAILED")
    again = told("--run-id", "ranks")
    assert again.returncode == 2
    assert "ranks was cancelled" in again.stderr
