"""What a plan takes from the ledger, through the command."""

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launcher import paths
from launcher.cli import launch
from launcher.events import Measured
from launcher.ledger import Ledger
from launcher.types import CALIBRATION, Measurement

JOB = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--gpu", "RTX4090", "--on", "runpod")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "state"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(launch, [*arguments, *JOB, "--data", "rows.jsonl"])


def run_took(times: float) -> None:
    """The ledger holds a run of qlora on that card which took so many times its estimate."""
    took = Measurement(
        card="RTX4090",
        device="cuda",
        strategy="qlora",
        model="a/b",
        memory_metric="cuda max_memory_allocated",
        memory_bytes=round(times * 10**10),
        memory_estimated_bytes=10**10,
        training_tokens=1000,
        training_seconds=times * 100,
        training_estimated_seconds=100.0,
    )
    Ledger(paths.ledger_file()).append(
        f"run-{times}", "2026-11-21", Measured(attempt=1, measurement=took)
    )


def estimate_of(answer: Result) -> dict:
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)["candidates"][0]["estimate"]


def test_a_plan_without_a_ledger_makes_none(state: Path) -> None:
    for arguments in (("estimate", "--strategy", "qlora", "--json"), ("estimate", "--compare")):
        answer = command(*arguments)
        assert answer.exit_code == 0, answer.output
        assert CALIBRATION not in answer.stdout
    assert estimate_of(command("estimate", "--strategy", "qlora", "--json"))["calibrated_on"] == 0
    assert not state.exists()


def test_runs_in_the_ledger_shift_what_the_same_card_is_estimated_at() -> None:
    plain = estimate_of(command("estimate", "--strategy", "qlora", "--json"))
    run_took(1.2)
    one = estimate_of(command("estimate", "--strategy", "qlora", "--json"))
    run_took(1.21)
    two = estimate_of(command("estimate", "--strategy", "qlora", "--json"))
    assert [e["calibrated_on"] for e in (plain, one, two)] == [0, 1, 2]
    needs = [e["memory_expected_bytes"] for e in (plain, one, two)]
    assert needs == sorted(set(needs))
    assert two["memory_upper_bytes"] >= 1.2 * plain["memory_expected_bytes"]
    shown = command("estimate", "--strategy", "qlora").stdout
    assert "calibrated on 2 runs of qlora on RTX4090: memory ×1.11" in shown
    assert CALIBRATION not in command("estimate", "--strategy", "lora").stdout


def test_a_ledger_that_cannot_be_read_stops_no_plan(state: Path) -> None:
    (state / "loralift").mkdir(parents=True)
    paths.ledger_file().write_bytes(b"not a database" * 400)
    answer = command("estimate", "--strategy", "qlora")
    assert answer.exit_code == 0, answer.output
    assert "cannot be read" in answer.output
    assert "estimates are not calibrated" in answer.output


def test_a_newer_ledger_stops_no_plan(state: Path) -> None:
    Ledger(paths.ledger_file())
    db = sqlite3.connect(paths.ledger_file())
    db.executescript("DROP TABLE measurements; PRAGMA user_version = 99;")
    db.close()
    answer = command("estimate", "--strategy", "qlora")
    assert answer.exit_code == 0, answer.output
    assert "estimates are not calibrated" in answer.output
