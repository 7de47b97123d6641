"""What a person is asked before money is spent."""

import io
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from jobs import layout
from jobs.spec import encode
from launcher import api, cli, climbing, portfolios
from launcher.commands import through
from launcher.commands.options import Hub, hub_of
from launcher.errors import BadInput
from launcher.planning.costs import deadline
from launcher.running.next_offer import Place
from launcher.running.resuming import Resumption
from launcher.running.starting import BUCKET_SECRETS, NEEDED_SECRETS
from launcher.types import Attempt, Budget, Plan, Run, View
from results.receipt import Receipt
from tests.unit.launcher.plans import cloud, dollars, planned

AT = "2026-11-21T00:00:00.000+00:00"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def ready() -> Resumption:
    """A run under a cap of $4 whose first machine was held for an hour at $1.20."""
    made: Plan = planned([cloud("RTX4090", 0.5)], Budget(max_cost_microusd=dollars(4)))
    assert made.chosen is not None
    first = Attempt(
        attempt=1, started_at=AT, executor="skypilot", handle="skypilot:x", provider="runpod",
        instance="x", microusd_per_hour=dollars(1.2), machine="GONE",
        gone_at="2026-11-21T01:00:00.000+00:00",
    )  # fmt: skip
    run = Run(
        run_id="run-1", created_at=AT, store="runs", state="FAILED", reason="LOST", message=None,
        ended_at=AT, folder=None, bucket="", attempts=(first,),
    )  # fmt: skip
    return Resumption(run, made, Place(0, made.chosen), [], 0.0)


@pytest.fixture
def resumed(ready: Resumption, monkeypatch: pytest.MonkeyPatch) -> list[Resumption]:
    found: list[Resumption] = []
    monkeypatch.setattr(api, "exists", lambda run_id: True)
    monkeypatch.setattr(api, "resumption", lambda run_id, say: ready)
    monkeypatch.setattr(api, "status", lambda run_id: View(
        run=ready.run, plan=ready.plan, last=None, result=None, log_tail="", spent_microusd=0,
        folder="",
    ))  # fmt: skip
    monkeypatch.setattr(climbing, "at_it", lambda run_id: nullcontext(True))
    monkeypatch.setattr(climbing, "waits", lambda run_id: False)
    monkeypatch.setattr(climbing, "last_of", lambda run_id: run_id)
    monkeypatch.setattr(api, "resume", lambda one, say: found.append(one))
    monkeypatch.setattr(cli, "see_through", lambda *_: None)
    return found


def test_a_paid_resume_says_what_is_left_and_asks(ready, resumed, monkeypatch, capsys) -> None:
    for answer, started in (("n", 0), ("y", 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
        if started:
            cli._confirm_going_on(ready)
        else:
            with pytest.raises(click.Abort):
                cli._confirm_going_on(ready)
        said = capsys.readouterr().err
        assert "$2.80 of run run-1's cap of $4.00 are left" in said
        assert "Spend up to $1.00 of it on runpod?" in said


def test_with_nobody_there_it_needs_yes(ready, resumed) -> None:
    command = ["train", "--run-id", "run-1"]
    refused = CliRunner().invoke(cli.launch, command)
    assert isinstance(refused.exception, BadInput)
    assert "--yes" in str(refused.exception)
    assert resumed == []
    CliRunner().invoke(cli.launch, [*command, "--yes"])
    assert resumed == [ready]


def test_what_costs_nothing_is_not_asked_about(ready, resumed, monkeypatch) -> None:
    free = msgspec.structs.replace(ready.place.candidate, worst_microusd=0)
    costless = ready._replace(place=Place(0, free))
    monkeypatch.setattr(api, "resumption", lambda run_id, say: costless)
    CliRunner().invoke(cli.launch, ["train", "--run-id", "run-1"])
    assert resumed == [costless]


def test_how_to_publish_needs_where() -> None:
    assert hub_of(None, False, None) is None
    with pytest.raises(BadInput, match="--public says how to publish: give --hub"):
        hub_of(None, True, None)
    with pytest.raises(BadInput, match="--license says how"):
        hub_of(None, False, "mit")
    asked = hub_of("me/mine", True, "mit")
    assert asked is not None
    assert asked.command("r") == "launch publish r --hub me/mine --public --license mit"
    assert Hub("me/mine").command("r") == "launch publish r --hub me/mine"


@pytest.mark.parametrize("amount", ["-1", "nan", "1e9"])
@pytest.mark.parametrize(
    "command",
    ["train --dry-run --max-cost", "canary --on runpod --max-cost", "offers --max-hourly"],
)
def test_dollars_that_no_cap_may_be_are_refused(command: str, amount: str) -> None:
    done = CliRunner().invoke(cli.launch, [*command.split(), amount])
    assert done.exit_code == 2
    assert "expected dollars from 0 to 1,000,000" in done.output


@pytest.mark.parametrize("asked", [["--show", "task"], ["--dry-run", "--json", "--show", "spec"]])
def test_what_is_to_be_shown_is_never_ignored(asked: list[str]) -> None:
    done = CliRunner().invoke(cli.launch, ["train", *asked])
    assert isinstance(done.exception, BadInput)
    assert f"--show {asked[-1]}" in str(done.exception)
    assert done.output == ""


@pytest.mark.parametrize(
    ("spot", "store", "recovered"),
    [(True, "s3://bucket/prefix", True), (False, "s3://bucket/prefix", False), (False, "", False)],
)
def test_the_printed_task_is_the_one_that_a_launch_hands_over(
    monkeypatch: pytest.MonkeyPatch, spot: bool, store: str, recovered: bool
) -> None:
    for name in ("HF_TOKEN", *BUCKET_SECRETS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    budget = Budget(max_cost_microusd=dollars(10), spot=spot, to_bucket=bool(store))
    made = planned([cloud("A10G", 0.5, "aws", spot=spot)], budget)
    monkeypatch.setattr(api, "plan", lambda *_, **__: made)
    where = ["--store", store] if store else []
    asked = ["train", "--dry-run", "--show", "task", *where]
    done = CliRunner().invoke(cli.launch, asked, catch_exceptions=False)
    tree = yaml.safe_load(done.stdout)
    named = [*NEEDED_SECRETS, "HF_TOKEN"] if store else ["HF_TOKEN"]
    assert tree["envs"]["LORALIFT_STORE"] == store
    assert list(tree["secrets"]) == named
    assert ("job_recovery" in tree["resources"]) is recovered
    assert ("autostop" in tree["resources"]) is not recovered
    command = "sky jobs launch" if recovered else "sky launch"
    flags = " ".join(f"--secret {name}" for name in named)
    assert f"# By hand: {command} {flags} FILE\n" in done.stdout
    # Nobody takes a managed job's machine down: it idles for 10 minutes, and the plan counts 5.
    assert made.chosen is not None
    due = deadline(made.chosen, made.budget, made.created_at)
    due -= timedelta(minutes=5 if recovered else 0)
    assert datetime.fromisoformat(tree["envs"]["LORALIFT_DEADLINE"]) == due.replace(microsecond=0)


def test_a_run_that_exists_is_not_planned_as_another(ready, resumed) -> None:
    done = CliRunner().invoke(cli.launch, ["train", "--run-id", "run-1", "--dry-run"])
    assert isinstance(done.exception, BadInput)
    assert "run run-1 exists and keeps its plan: `launch status run-1`" in str(done.exception)
    assert resumed == []


@pytest.mark.usefixtures("apart")
def test_a_report_that_is_written_is_not_printed_too(tmp_path: Path) -> None:
    place = tmp_path / "all.html"
    done = CliRunner().invoke(cli.launch, ["report", "--all", "--out", str(place)])
    assert place.read_text().startswith("<!doctype html>")
    assert (done.stdout, done.stderr) == ("", f"report: {place}\n")


@pytest.mark.parametrize("store", ["gs://b/p", "s3:/b/p", "s3://", "S3:/b"])
@pytest.mark.parametrize("command", ["train --dry-run --store", "doctor --store", "adopt"])
def test_what_no_store_can_be_is_bad_input(command: str, store: str) -> None:
    done = CliRunner().invoke(cli.launch, [*command.split(), store])
    assert done.exit_code == 2
    assert store in done.output
    assert "s3://BUCKET/PREFIX" in done.output


@pytest.mark.usefixtures("apart")
def test_what_does_not_climb_shows_no_ladder() -> None:
    asked = ["train", "--dry-run", "--set", "gates=[{metric: exact_match, min: 0.9}]"]
    assert "when a gate fails:" in CliRunner().invoke(cli.launch, asked).output
    done = CliRunner().invoke(cli.launch, [*asked, "--no-escalate"])
    assert done.exit_code == 0
    assert "when a gate fails:" not in done.output


def test_a_second_launcher_of_the_same_id_begins_nothing(monkeypatch) -> None:
    made = planned([cloud("RTX4090", 0.5)], Budget(max_cost_microusd=dollars(4)))
    begun: list[str] = []
    monkeypatch.setattr(api, "exists", lambda run_id: False)
    monkeypatch.setattr(api, "plan", lambda *_, **__: made)
    monkeypatch.setattr(api, "ready", lambda made, *_: made)
    monkeypatch.setattr(cli, "require_a_way_home", lambda *_: None)
    monkeypatch.setattr(api, "submit", lambda *_: begun.append("run"))
    monkeypatch.setattr(climbing, "at_it", lambda run_id: nullcontext(False))
    refused = CliRunner().invoke(cli.launch, ["train", "--yes"])
    assert isinstance(refused.exception, BadInput)
    assert "another launcher sees" in str(refused.exception)
    assert begun == []


def test_nor_does_one_of_the_same_portfolio(monkeypatch) -> None:
    begun: list[str] = []
    made = SimpleNamespace(
        members=[
            SimpleNamespace(
                plan=planned([cloud("RTX4090", 0.5)], Budget(max_cost_microusd=dollars(4)))
            ),
        ],
        store="s3://bucket",
        portfolio_id="ranks",
    )
    monkeypatch.setattr(portfolios, "plan", lambda *_, **__: made)
    monkeypatch.setattr("launcher.display.portfolios.plan_text", lambda made: "")
    monkeypatch.setattr(portfolios, "at_it", lambda portfolio_id: nullcontext(False))
    monkeypatch.setattr(portfolios, "begin", lambda *_: begun.append("ranks"))
    refused = CliRunner().invoke(cli.launch, ["train", "--sweep", "rank=4,8", "--yes", "--detach"])
    assert isinstance(refused.exception, BadInput), refused.output
    assert "another launcher sees ranks through" in str(refused.exception)
    assert begun == []


@pytest.mark.parametrize("code", [0, 5])
def test_a_reader_who_has_had_enough_does_not_change_how_it_ended(code: int) -> None:
    program = (
        "import click\n"
        "from launcher.commands.output import ending_with\n"
        f"with ending_with({code}):\n"
        "    while True: click.echo('a receipt')\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as done:
        assert done.stdout is not None
        done.stdout.readline()
        done.stdout.close()
        assert done.wait(timeout=60) == code


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        ("FAILED", "ERROR", 1),
        ("FAILED", "BUDGET_EXCEEDED", 3),
        ("SUCCEEDED", "GATE_FAILED", 5),
        ("SUCCEEDED", None, 0),
    ],
)
def test_nor_how_a_run_ended(ready, monkeypatch, tmp_path: Path, state, reason, code) -> None:
    def full(value: object) -> None:
        raise BrokenPipeError

    receipt = Receipt(
        run_id="run-1", state=state, reason=reason, provider="local", instance="cpu", attempts=1,
        max_cost_microusd=None, spent_microusd=0, lines=(),
    )  # fmt: skip
    (tmp_path / layout.RECEIPT).write_bytes(encode(receipt))
    run = msgspec.structs.replace(ready.run, state=state, reason=reason)
    monkeypatch.setattr(api, "collect", lambda run_id: tmp_path)
    monkeypatch.setattr(api, "status", lambda run_id: View(
        run=run, plan=ready.plan, last=None, result=None, log_tail="", spent_microusd=0, folder="",
    ))  # fmt: skip
    monkeypatch.setattr(through, "write_json", full)
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        through.finish("run-1", None, True, None)
    assert (ended.value.code if ended is not None else 0) == code
