"""What `launch canary` asks, refuses and ends with."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from launcher import api
from launcher.commands.canary import EXITS, PARTS, canary
from launcher.errors import BadInput, NothingFits
from launcher.planning import canary as planning
from launcher.planning.canary import CanaryReceipt
from launcher.types import MICROUSD, Budget, Plan
from tests.unit.launcher.planning.test_canary import timed

ARGUMENTS = ("--on", "runpod", "--max-cost", "1")


@pytest.fixture
def plan(small_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """What is planned and found ready; nothing is ever rented."""
    (chosen, *_) = small_plan.candidates
    made = msgspec.structs.replace(
        small_plan,
        run_id="canary-1",
        budget=Budget(max_cost_microusd=MICROUSD, max_hours=2.0, collect_minutes=1),
        candidates=(timed(chosen, 720_000, "1x_RTX4090_SECURE"),),
    )
    monkeypatch.setattr(api, "canary", lambda *_, **__: made)
    return made


def proving(verdict: str, taken: list[tuple[str, ...]]):
    def prove(made: Plan, names: tuple[str, ...], store: Path, say: object) -> CanaryReceipt:
        taken.append(names)
        return CanaryReceipt(
            canary_id=made.run_id,
            provider="runpod",
            verdict=verdict,
            started_at=made.created_at,
            ended_at=made.created_at,
            max_cost_microusd=MICROUSD,
            spent_microusd=0,
            versions={},
            parts=(),
        )

    return prove


def test_the_command_names_every_part_and_ends_with_every_verdict():
    assert tuple(planning.PARTS) == PARTS
    assert set(EXITS) | {"not run"} == set(planning.Verdict.__args__)


@pytest.mark.parametrize(("verdict", "code"), EXITS.items())
def test_it_ends_as_it_went(verdict, code, plan, monkeypatch):
    taken: list[tuple[str, ...]] = []
    monkeypatch.setattr(api, "prove", proving(verdict, taken))
    done = CliRunner().invoke(canary, [*ARGUMENTS, "--yes", "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout)["verdict"] == verdict
    assert "3 machines, one after the other, RTX4090" in done.stderr
    assert "$1 at worst, of a cap of $1" in done.stderr
    assert taken == [PARTS]


def test_parts_run_in_their_order_however_they_are_named(plan, monkeypatch):
    taken: list[tuple[str, ...]] = []
    monkeypatch.setattr(api, "prove", proving("proved", taken))
    named = ["--part", "guard", "--part", "machine", "--yes"]
    assert CliRunner().invoke(canary, [*ARGUMENTS, *named]).exit_code == 0
    assert taken == [("machine", "guard")]


def test_nothing_is_rented_unasked(plan, monkeypatch):
    taken: list[tuple[str, ...]] = []
    monkeypatch.setattr(api, "prove", proving("proved", taken))
    done = CliRunner().invoke(canary, [*ARGUMENTS])
    assert isinstance(done.exception, BadInput)
    assert "add --yes to agree" in str(done.exception)
    assert taken == []


def test_what_a_canary_cannot_prove_is_refused():
    done = CliRunner().invoke(canary, ["--on", "local", "--max-cost", "1", "--yes"])
    assert isinstance(done.exception, BadInput)
    assert "what is rented" in str(done.exception)
    done = CliRunner().invoke(canary, [*ARGUMENTS, "--store", "s3://bucket"])
    assert isinstance(done.exception, BadInput)
    assert CliRunner().invoke(canary, ["--on", "runpod"]).exit_code == 2  # without a cap


def test_a_part_alone_needs_its_own_share_and_not_the_sample_jobs_worst_case(monkeypatch):
    """By the embedded prices; what is checked before renting is told that all is well."""
    monkeypatch.setattr(api, "ready", lambda made, store, hub, say: made)

    def canary_for(max_cost: float, *names: str) -> Plan:
        return api.canary(
            "runpod", "RTX4090", max_cost, names, "runs", now=api.utc_now(), say=lambda line: None
        )

    alone = canary_for(0.3, "guard")
    assert [c.verdict for c in alone.candidates].count("chosen") == 1
    assert len({(c.offer.instance, c.offer.spot) for c in alone.candidates}) == len(
        alone.candidates
    )
    assert alone.budget.max_cost_microusd == 300_000 < alone.chosen.worst_microusd
    assert not any(setting.key == "budget.max_cost" for setting in alone.settings)
    with pytest.raises(NothingFits, match=r"receipt \+ machine \+ guard: .* > cap \$0.30"):
        canary_for(0.3, *PARTS)
    with pytest.raises(NothingFits, match=r"(?s)guard: .*--max-cost 0.\d\d pays for that$"):
        canary_for(0.1, "guard")
