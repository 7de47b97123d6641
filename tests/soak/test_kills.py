"""After random kills of launcher, API server or job: no cluster left, no result lost, and ledger,
SkyPilot and Slurm agree. And a machine whose autodown fails is ended by Slurm, within its cap.

LORALIFT_SOAK_KILLS says how many (20), LORALIFT_SOAK_SEED which (1).
"""

import hashlib
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from jobs import layout
from launcher.executors import environment
from results.collect import verify
from tests.integration.conftest import sky_python, train_python
from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.launching import Story, until
from tests.integration.slurm.test_launch import DEADLINE_SECONDS, capped, closing_seconds
from tests.soak.killing import (
    Death,
    Kill,
    Killed,
    Stage,
    clusters_of,
    plan_of,
    setting,
    stop_autodown,
)

__all__ = ["sky_python", "train_python"]  # the fixtures

SEED = setting("LORALIFT_SOAK_SEED", 1)
PLAN = plan_of(SEED, setting("LORALIFT_SOAK_KILLS", 20))
SKYLET = "skylet"  # SkyPilot's daemon on its machine, which takes it down
LANES = 3  # stories at once; two cores are busy with as many
# How much longer the ledger may count a machine than Slurm says that it was held.
EXCESS_SECONDS = 120.0


@pytest.fixture(scope="session")
def slurm(sky_python: str) -> Iterator[SlurmCluster]:
    """Without controllers of managed jobs: every server that is started again would start them."""
    missing = machine.lacks()
    assert missing is None, missing
    with SlurmCluster(sky_python, managed_jobs=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def told(
    slurm: SlurmCluster, train_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """Every story, going on."""
    print(f"\n{len(PLAN)} kills, seed {SEED}", flush=True)
    lock = hashlib.sha256(environment.lock_file().read_bytes()).hexdigest()[:16]
    kept = slurm.home / ".cache" / "loralift" / "envs" / lock
    slurm.give_training_environment(environment.folder(), kept)
    folder, stage = tmp_path_factory.mktemp("kills"), Stage(slurm)
    stories = {k: Killed(slurm, f"kill-{k.number:02}", folder / k.name, {}) for k in PLAN}
    alone = Story(slurm, SKYLET, folder / SKYLET, {})
    alone.launch("offers", "--refresh")
    pool, beside = ThreadPoolExecutor(LANES), ThreadPoolExecutor(1)
    futures = {SKYLET: beside.submit(ended_by_slurm, alone)}
    until("it to begin", lambda: alone.begun.is_set() or alone.over.is_set())
    futures |= {kill.name: pool.submit(tell, stage, story, kill) for kill, story in stories.items()}
    yield futures
    for each in (pool, beside):
        each.shutdown(cancel_futures=True)
    for story in (alone, *stories.values()):
        story.end()


def ended_by_slurm(story: Story) -> None:
    """Nobody looks after it from here, and SkyPilot's daemon on its machine stands still."""
    cap_seconds = round(DEADLINE_SECONDS + closing_seconds())
    try:
        capped(story, cap_seconds)
        assert stop_autodown(story) > 0
        until("its node's release", lambda: stop_autodown(story) == 0, every=2.0)
        held = story.until_released()
        view = story.until_gone()
    finally:
        story.over.set()
    seconds = (held.end - held.start).total_seconds()
    print(f"{SKYLET}: {held.state}, held {seconds:.0f} of {cap_seconds} s", flush=True)
    assert DEADLINE_SECONDS < seconds <= cap_seconds
    assert view["run"]["state"] == "FAILED"
    assert view["spent_microusd"] <= view["plan"]["budget"]["max_cost_microusd"]


def tell(stage: Stage, story: Killed, kill: Kill) -> None:
    begun = time.monotonic()
    death = Death()
    try:
        story.begin()
        death = story.die(stage, kill)
        ended_early = kill.target == "job"
        if ended_early:
            assert story.started[-1].wait(1800) == 1, story.said
            run = story.status()["run"]
            story.ended_early(run)
            assert run["reason"] in ("LOST", "SETUP_FAILED"), run["message"]
            assert death.step == 0 or story.checkpoint_here(death.step)
        story.goes_on(random.Random(f"{SEED} {kill.number}").choice(("status", "guard")))
        # A launch may be lost before SkyPilot has it, and with every server that takes one.
        lost = (kill.moment == "provisioning") + sum(begun < at for at in stage.servers_killed)
        judge(story, death, at_most=1 + ended_early + lost, resumed=ended_early)
        with (story.folder / "figures.txt").open() as figures:
            said = "; ".join(figures.read().splitlines())
    finally:
        story.over.set()
    took = time.monotonic() - death.at
    print(f"{kill.name} at {death.seen}: whole after {took:.0f} s; {said}", flush=True)


def judge(story: Killed, death: Death, at_most: int, resumed: bool) -> None:
    """The run's end, by its files, the ledger, SkyPilot and Slurm."""
    view = story.status()
    attempts = view["run"]["attempts"]
    assert view["run"]["state"] == "SUCCEEDED"
    assert {attempt["machine"] for attempt in attempts} == {"GONE"}
    assert 1 + resumed <= len(attempts) <= at_most
    story.launch("collect", story.run_id)
    assert verify(story.home) == []
    assert (story.home / layout.ADAPTER / "adapter_model.safetensors").is_file()
    result = json.loads((story.home / layout.RESULT).read_text())
    if resumed and death.step:
        assert (result["resumed_from_step"] or 0) >= death.step
    agree(story, attempts, view["spent_microusd"])
    assert clusters_of(story.slurm, story.run_id) == []


def agree(story: Killed, attempts: list[dict], spent_microusd: int) -> None:
    """The ledger counts all that Slurm says was held, and not much more."""
    owed = 0.0
    figures = [f"{len(attempts)} attempts"]
    for number, attempt in enumerate(attempts, start=1):
        held = story.held(number)
        assert all(h.end is not None for h in held), f"still held: {held}"
        seconds = sum((h.end - h.start).total_seconds() for h in held if h.end is not None)
        counted = datetime.fromisoformat(attempt["gone_at"]) - datetime.fromisoformat(
            attempt["started_at"]
        )
        excess = counted.total_seconds() - seconds
        figures.append(f"attempt {number} held {seconds:.0f} s, counted {excess:.0f} s more")
        assert excess >= 0
        assert not held or excess <= EXCESS_SECONDS, figures
        owed += attempt["microusd_per_hour"] * seconds / 3600
    assert spent_microusd >= owed
    (story.folder / "figures.txt").write_text("\n".join(figures))


def test_a_machine_that_does_not_end_itself_is_ended_by_slurm(
    told: dict[str, "Future[None]"],
) -> None:
    told[SKYLET].result()


@pytest.mark.parametrize("name", [kill.name for kill in PLAN])
def test_a_run_outlives(name: str, told: dict[str, "Future[None]"]) -> None:
    told[name].result()


def test_nothing_is_left(slurm: SlurmCluster, told: dict[str, "Future[None]"]) -> None:
    for future in told.values():
        future.exception()
    assert slurm.sky_clusters() == []
    assert set(slurm.states().values()) == {"idle"}
    homes: list[Path] = list((slurm.home / ".sky_clusters").iterdir())
    assert homes == []
