"""`launch --on slurm`, from plan to receipt and through everything that may go wrong on the way.

Every story is one run of the real command; they go on at once, on one cluster. A story is told in
a thread, where it waits for most of its time, and judged by its test.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from jobs import layout
from jobs.spec import Result
from launcher.executors import environment
from results.collect import verify
from tests.integration.buckets import CLIENT, SERVER
from tests.integration.environments import kept_environment
from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.launching import (
    CommandLines,
    Story,
    files_with,
    secret,
    until,
)
from tests.servers import seaweedfs
from tests.servers.seaweedfs import BUCKET

LANES = 3  # stories at once beside those of the cap; two cores are busy with as many
# How much longer the ledger may count a machine than Slurm says that it was held: what SkyPilot
# does before Slurm is asked, and after its node is free.
EXCESS_SECONDS = 120.0
DEADLINE_SECONDS = 240.0  # from the request for a machine; the job has begun by then
# `launch`'s own way, for a cap that its planner would not take: the worst case has half an hour in
# a queue. The cap pays for so many seconds of the machine.
CAPPED = """
import sys
import msgspec
from launcher import api
from launcher.recipes import Flags
recipe, run_id, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
asked = Flags(providers=("slurm",), gpu="A100-80GB", max_cost=5.0)
made = api.plan(recipe, asked, run_id=run_id, now=api.utc_now())
rate = made.chosen.offer.microusd_per_hour
budget = msgspec.structs.replace(made.budget, max_cost_microusd=rate * seconds // 3600)
made = msgspec.structs.replace(made, budget=budget)
say = lambda line: print(line, flush=True)
api.submit(made, "runs", say)
for record in api.follow(run_id):
    pass
"""
# `launch` that asks SkyPilot for a machine only once a file is there.
ASKED_ONCE = """
import sys, time
from pathlib import Path
from launcher.executors.skypilot import SkyPilotExecutor
there, ask = Path(sys.argv.pop(1)), SkyPilotExecutor._ask
def ask_then(*arguments):
    while not there.exists():
        time.sleep(0.1)
    return ask(*arguments)
SkyPilotExecutor._ask = ask_then
from launcher.cli import main
main()
"""


class Stage(NamedTuple):
    """What all stories share."""

    slurm: SlurmCluster
    stories: dict[str, Story]
    server: seaweedfs.SeaweedFS
    boto3: Path  # where it can be imported from

    def __getitem__(self, name: str) -> Story:
        return self.stories[name]


# --- the stories ------------------------------------------------------------------------------


def plan_to_receipt(stage: Stage, story: Story) -> None:
    arguments = story.arguments(story.recipe(), "--max-cost", "3")
    answer = json.loads(story.launch(*arguments, "--json").stdout.splitlines()[-1])
    assert (answer["state"], answer["reason"]) == ("SUCCEEDED", None)
    assert verify(story.home) == []
    assert (story.home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    assert json.loads((story.home / layout.GATES).read_text())
    receipt = answer["receipt"]
    assert (receipt["provider"], receipt["instance"]) == ("slurm", "local/rtx4090")
    (held,) = story.held()
    assert held.node == "rtx4090"
    view = story.status()
    (attempt,) = view["run"]["attempts"]
    assert (view["run"]["state"], attempt["machine"]) == ("SUCCEEDED", "GONE")
    assert attempt["microusd_per_hour"] == 740_000
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS
    assert view["spent_microusd"] == receipt["spent_microusd"]
    assert view["spent_microusd"] * 3600 >= 740_000 * (held.end - held.start).total_seconds()
    assert story.run_id in story.launch("runs").stdout
    assert "step 3" in story.launch("logs", story.run_id).stdout
    assert "local/rtx4090" in story.launch("report", story.run_id).stdout


def no_capacity(stage: Stage, story: Story) -> None:
    """The cheapest partition is drained when all is checked, just before it is asked for."""
    other = stage["receipt"]  # wants the same partition
    until("the other's node", lambda: other.held() or other.over.is_set())
    arguments = story.arguments(story.recipe(), "--max-cost", "3")
    drained = story.folder / "drained"
    launcher = story.start("-c", ASKED_ONCE, str(drained), *arguments)
    until("the request", lambda: "asking SkyPilot for" in story.said)
    stage.slurm.drain("rtx4090")
    drained.touch()
    try:
        held = story.until_held(attempt=2)
    finally:
        stage.slurm.resume("rtx4090")
    assert launcher.wait() == 0, story.said
    assert held.node == "a10g"
    assert story.held(attempt=1) == []
    run = story.status()["run"]
    assert [a["instance"] for a in run["attempts"]] == ["local/rtx4090", "local/a10g"]
    assert [a["machine"] for a in run["attempts"]] == ["GONE", "GONE"]
    changes = [
        (found["attempt"], found["state"], found.get("reason"))
        for (text,) in story.ledger("SELECT body FROM events WHERE kind = 'state_changed'")
        for found in [json.loads(text)]
    ]
    assert (1, "FAILED", "NO_CAPACITY") in changes
    assert changes[-1] == (2, "SUCCEEDED", None)
    assert 0 <= story.excess_seconds(attempt=2) <= EXCESS_SECONDS
    receipt = json.loads((story.home / layout.RECEIPT).read_text())
    assert receipt["attempts"] == 2
    assert receipt["spent_microusd"] == story.status()["spent_microusd"]
    passed_over(stage, story)


def passed_over(stage: Stage, story: Story) -> None:
    """The partition is drained before all is checked: the next one is chosen, and as nobody is
    there to agree to that, nothing is asked for."""
    recipe = story.recipe()
    stage.slurm.drain("rtx4090")
    try:
        asked = ("--on", "slurm", "--max-cost", "3", "--run-id", f"{story.run_id}-before")
        said = story.launch(recipe, *asked, code=2).stderr
    finally:
        stage.slurm.resume("rtx4090")
    (line,) = [line for line in said.splitlines() if "is passed over" in line]
    assert "Slurm local/rtx4090 is passed over" in line
    assert "its nodes take no jobs" in line
    assert line.endswith("going on with Slurm local/a10g")
    assert "add --yes to agree" in said


def cancelled(stage: Stage, story: Story) -> None:
    launcher = story.start_run(story.recipe(epochs=20_000))
    story.until_training()
    said = story.launch("cancel", story.run_id).stdout
    assert f"{story.run_id} CANCELLED, $0." in said
    assert launcher.wait() == 1, story.said
    view = story.status()
    assert (view["run"]["state"], view["run"]["reason"]) == ("CANCELLED", "CANCELLED")
    assert view["run"]["attempts"][0]["machine"] == "GONE"
    result = msgspec.json.decode((story.home / layout.RESULT).read_bytes(), type=Result)
    assert result.failure is not None
    assert result.failure.reason == "CANCELLED"
    assert result.steps > 0
    assert verify(story.home) == []
    last = f"{layout.CHECKPOINT_PREFIX}{result.steps}"
    assert (story.work / layout.CHECKPOINTS / last / layout.COMPLETE).is_file()
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS


def failing(stage: Stage, story: Story) -> None:
    done = story.launch(*story.arguments(story.recipe(metric="dies")), code=1)
    assert "FAILED: the job ended without leaving a result" in done.stderr
    assert "the scorer wants more memory than there is" in done.stderr
    run = story.status()["run"]
    assert (run["state"], run["reason"]) == ("FAILED", "LOST")
    assert run["attempts"][0]["machine"] == "GONE"
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS


def killed_while_provisioning(stage: Stage, story: Story) -> None:
    launcher = story.start_run(story.recipe(metric="holds"))
    until("the request", lambda: "asking SkyPilot for" in story.said)
    story.until_held()
    story.kill(launcher)
    run = story.status()["run"]
    assert run["state"] in ("PROVISIONING", "RUNNING")
    story.let_go()
    assert "SUCCEEDED, its machine is gone" in story.launch("guard", "--watch").stdout
    home_again(story)


def killed_while_training(stage: Stage, story: Story) -> None:
    launcher = story.start_run(story.recipe(epochs=150, metric="holds"))
    story.until_training()
    story.kill(launcher)
    view = story.status()
    assert (view["run"]["state"], view["run"]["attempts"][0]["machine"]) == ("RUNNING", "UP")
    story.let_go()
    assert story.until_gone()["run"]["state"] == "SUCCEEDED"
    home_again(story)


def home_again(story: Story) -> None:
    """What the launcher that was killed had begun is done by those that came after it."""
    story.launch("collect", story.run_id)
    assert verify(story.home) == []
    assert (story.home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    (attempt,) = story.status()["run"]["attempts"]
    assert attempt["machine"] == "GONE"
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS


def ended_by_its_machine(stage: Stage, story: Story) -> None:
    """Nobody looks after it from here: its own deadline ends it, autodown gives the node back."""
    cap_seconds = round(DEADLINE_SECONDS + closing_seconds())
    capped(story, cap_seconds)
    held = story.until_released()
    assert (held.end - held.start).total_seconds() <= cap_seconds
    view = story.until_gone()
    run = view["run"]
    assert run["state"] == "FAILED"
    assert run["reason"] in ("BUDGET_EXCEEDED", "LOST")
    assert view["spent_microusd"] <= view["plan"]["budget"]["max_cost_microusd"]
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS
    story.launch("collect", story.run_id)
    assert verify(story.home) == []


def ended_by_the_guard(stage: Stage, story: Story) -> None:
    """Nothing on its machine ends it: neither job, nor watchdog; autodown waits for the job."""
    cap_seconds = round(DEADLINE_SECONDS + closing_seconds())
    capped(story, cap_seconds)
    stopped = break_the_machine(story)
    try:
        said = story.launch("guard", "--watch").stdout
        assert "its machine is ended, the cap would be reached" in said
        held = story.until_released()
    finally:
        for pid in stopped:  # a machine that is gone takes them along; this one stays
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert (held.end - held.start).total_seconds() <= cap_seconds
    view = story.status()
    run = view["run"]
    assert (run["state"], run["reason"]) == ("FAILED", "BUDGET_EXCEEDED")
    assert run["attempts"][0]["machine"] == "GONE"
    assert view["spent_microusd"] <= view["plan"]["budget"]["max_cost_microusd"]
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS


def capped(story: Story, seconds: int) -> None:
    """A job that goes on for ever under a cap that pays for so long; its launcher is killed."""
    recipe = story.recipe(metric="sleeps", minutes=1)
    launcher = story.start("-c", CAPPED, recipe, story.run_id, str(seconds))
    story.until_begun()
    story.kill(launcher)
    story.begun.set()


def closing_seconds() -> float:
    """What the cap reserves from the deadline on, collecting for one minute."""
    from launcher.estimate.renting import teardown

    return teardown(1)[0].high


def break_the_machine(story: Story) -> list[int]:
    """The job and what would end it stand still; to SkyPilot it is a job at work."""
    ours = story.processes("jobs.watchdog", "jobs.distributed", "jobs.train")
    assert len(ours) >= 3, f"{ours}: too few to be the watchdog, `timeout` and the job"
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    return ours


def detached(stage: Stage, story: Story) -> None:
    recipe = story.recipe(minutes=1)
    refused = story.launch(*story.arguments(recipe, "--detach"), code=2)
    assert "--store s3://BUCKET/PREFIX keeps them" in refused.stderr
    assert story.held() == []
    url = f"s3://{BUCKET}/detached"
    done = story.launch(*story.arguments(recipe, "--detach", "--store", url))
    assert f"{story.run_id} goes on by itself" in done.stderr
    story.begun.set()
    story.until_released()
    client = stage.server.client()
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"detached/{story.run_id}/")
    kept = {item["Key"].rpartition("/")[2] for item in found["Contents"]}
    assert {"adapter_model.safetensors", layout.RESULT, layout.EVENTS, layout.SUMS} <= kept
    assert story.until_gone()["run"]["state"] == "SUCCEEDED"
    story.launch("collect", story.run_id)
    assert verify(story.home) == []
    assert (story.home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    assert 0 <= story.excess_seconds() <= EXCESS_SECONDS


Told = Callable[[Stage, Story], None]
# Nobody looks at it, so that its skylet alone takes its machine down: one that starts at the same
# moment may take its port here, where all nodes are one host.
ALONE: dict[str, Told] = {"detached": detached}
# The cap's next: they take the longest, and need the machine for themselves until they have begun.
OF_THE_CAP: dict[str, Told] = {"machine": ended_by_its_machine, "guard": ended_by_the_guard}
OTHERS: dict[str, Told] = {
    "receipt": plan_to_receipt,
    "drained": no_capacity,
    "cancelled": cancelled,
    "failing": failing,
    "killed-early": killed_while_provisioning,
    "killed-late": killed_while_training,
}


STORIES = ALONE | OF_THE_CAP | OTHERS


def tell(stage: Stage, name: str) -> None:
    try:
        STORIES[name](stage, stage[name])
    finally:
        stage[name].over.set()


# --- telling them -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def planted() -> dict[str, str]:
    """Values that nobody may find anywhere."""
    return {"HF_TOKEN": secret("hf_"), "AWS_SECRET_ACCESS_KEY": secret()}


@pytest.fixture(scope="session")
def s3(
    planted: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[seaweedfs.SeaweedFS, Path]]:
    weed = Path(kept_environment([SERVER])).with_name("weed")
    client = Path(kept_environment(CLIENT)).parents[1]
    packages = client / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    sys.path.append(str(packages))
    folder = tmp_path_factory.mktemp("seaweedfs")
    server = seaweedfs.SeaweedFS(weed, folder, secret=planted["AWS_SECRET_ACCESS_KEY"])
    try:
        server.start()
        yield server, packages
    finally:
        server.kill()
        sys.path.remove(str(packages))


@pytest.fixture(scope="session")
def stage(
    slurm: SlurmCluster,
    planted: dict[str, str],
    s3: tuple[seaweedfs.SeaweedFS, Path],
    train_python: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    server, packages = s3
    lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
    kept = slurm.home / ".cache" / "loralift" / "envs" / lock
    slurm.give_training_environment(environment.folder(), kept)
    folder = tmp_path_factory.mktemp("stories")
    token = {"HF_TOKEN": planted["HF_TOKEN"]}
    stories = {name: Story(slurm, name, folder / name, token) for name in STORIES}
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(packages))))
    stories["detached"].secrets |= server.environment | {"PYTHONPATH": path}
    stories["receipt"].launch("offers", "--refresh")
    yield Stage(slurm, stories, server, packages)
    for story in stories.values():
        story.end()


@pytest.fixture(scope="session")
def lines(planted: dict[str, str]) -> Iterator[CommandLines]:
    looking = CommandLines(tuple(planted.values()))
    yield looking
    looking.stop()


@pytest.fixture(scope="session")
def told(
    stage: Stage, lines: CommandLines, request: pytest.FixtureRequest
) -> Iterator[dict[str, "Future[None]"]]:
    """Every story that is asked for, going on; `drained` wants the partition that `receipt` has."""
    asked = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    asked |= {"receipt"} if "drained" in asked else set()
    first, then = ThreadPoolExecutor(len(ALONE | OF_THE_CAP)), ThreadPoolExecutor(LANES)
    futures: dict[str, Future[None]] = {}
    for together in (ALONE, OF_THE_CAP):
        futures |= {name: first.submit(tell, stage, name) for name in together if name in asked}
        for one in map(stage.__getitem__, futures):
            until("stories to begin", lambda s=one: s.begun.is_set() or s.over.is_set())
    futures |= {name: then.submit(tell, stage, name) for name in OTHERS if name in asked}
    yield futures
    for pool in (first, then):
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", [*OTHERS, *ALONE, *OF_THE_CAP])
def test_story(name: str, told: dict[str, "Future[None]"]) -> None:
    told[name].result()


def test_nothing_is_left(stage: Stage, told: dict[str, "Future[None]"]) -> None:
    for future in told.values():
        future.exception()
    assert stage.slurm.sky_clusters() == []
    assert [held for held in stage.slurm.held() if held.end is None] == []
    until("idle nodes", lambda: set(stage.slurm.states().values()) == {"idle"})
    homes = stage.slurm.home / ".sky_clusters"
    with suppress(TimeoutError):  # a machine's script removes it as the last it does
        machine.until("the last home's removal", lambda: not list(homes.iterdir()), 60)
    assert sorted(homes.rglob("*")) == []
    until("SkyPilot's last process", lambda: processes_of(stage.slurm.user) == [])


def processes_of(user: str) -> list[str]:
    """Without the connections that SkyPilot keeps for some minutes."""
    found = subprocess.run(
        ["pgrep", "--uid", user, "--list-full"], capture_output=True, text=True
    ).stdout
    return [line for line in found.splitlines() if "sshd:" not in line]


def test_no_secret_is_written_or_shown(
    stage: Stage,
    planted: dict[str, str],
    lines: CommandLines,
    told: dict[str, "Future[None]"],
) -> None:
    for future in told.values():
        future.exception()
    values = tuple(planted.values())
    for story in stage.stories.values():
        assert files_with(values, story.folder) == []
    assert lines.looked_at > 0
    assert lines.seen == set()
    # SkyPilot's: docs/secrets.md. Slurm forgets a job's command line some minutes after its end.
    left = files_with(values, stage.slurm.folder)
    assert {path.parent for path in left} <= {stage.slurm.folder / "state"}
