"""The ladder of a plan, and which rung a failure leads to."""

from collections.abc import Sequence

import msgspec
import pytest

from jobs.spec import Gate, GateResult, JobSpec, ResolvedSpec
from launcher.display.plans import plan_text, rung_flags
from launcher.errors import BadInput
from launcher.estimate.shapes import ModelShape
from launcher.ladder import after, job_of, ladder
from launcher.types import (
    MICROUSD,
    Budget,
    DataFacts,
    Escalation,
    Estimate,
    Ladder,
    Offer,
    Plan,
    Rung,
)
from tests.unit.launcher.plans import JOB, an_estimate, cloud, planned

GATES = (Gate(metric="json_citation_rate", min=0.9),)
JUDGED = msgspec.structs.replace(JOB, strategy="qlora", gates=GATES)
OFFERS = [cloud("RTX4090", 0.74), cloud("A100-80GB", 1.64)]
RUNGS = Escalation().rungs


def made(job: JobSpec = JUDGED, max_cost: float = 10) -> Plan:
    return replan(job, Budget(max_cost_microusd=round(max_cost * MICROUSD)))


def wider_is_slower_and_longer_is_larger(
    spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer
) -> Estimate:
    hours = (165.0 + spec.lora.r) / offer.device.dense_16bit_tflops
    need = {"qlora": 9.0, "lora": 20.0}[spec.strategy] * max(1.0, spec.train.seq_len / 2048)
    return an_estimate(need, (hours / 2, hours, hours * 2))


def replan(job: JobSpec, budget: Budget, among: Sequence[Offer] = ()) -> Plan:
    return planned(among or OFFERS, budget, job, estimator=wider_is_slower_and_longer_is_larger)


def climbed(plan: Plan, escalation: Escalation | None = None) -> Ladder:
    found = ladder(plan, escalation or Escalation(), replan)
    assert found is not None
    return found


def names(found: Ladder) -> list[tuple[str, object]]:
    return [(one.rung.strategy, one.rung.set.get("lora.r")) for one in found.rungs]


def test_the_decision_in_use_is_the_default():
    assert names(climbed(made())) == [("qlora", None), ("qlora", 32), ("lora", None)]


def test_a_higher_start_has_less_above_it():
    lora = msgspec.structs.replace(JUDGED, strategy="lora")
    assert names(climbed(made(lora))) == [("lora", None)]


def test_auto_starts_where_the_plan_does():
    auto = made(msgspec.structs.replace(JUDGED, strategy="auto"))
    assert auto.chosen is not None
    assert auto.chosen.spec is not None
    assert names(climbed(auto))[0] == (auto.chosen.spec.strategy, None)


def test_a_rung_that_changes_nothing_is_none():
    wide = msgspec.structs.replace(JUDGED.lora, r=32, alpha=64)
    job = msgspec.structs.replace(JUDGED, lora=wide)
    assert names(climbed(made(job))) == [("qlora", None), ("lora", None)]


def test_what_goes_on_from_an_adapter_keeps_its_shape_and_its_base():
    job = msgspec.structs.replace(JUDGED, resume_from="hub:me/adapter")
    slower = Rung(strategy="qlora", set={"train.learning_rate": 1e-5})
    fewer = Rung(strategy="qlora", set={"lora.targets": ["q_proj"]})
    full = Rung(strategy="full")
    found = climbed(made(job), Escalation(rungs=(*RUNGS, fewer, full, slower)))
    assert [one.rung for one in found.rungs[1:]] == [slower]


def test_where_no_gate_can_fail_nothing_is_above():
    assert names(climbed(made(msgspec.structs.replace(JUDGED, gates=())))) == [("qlora", None)]


def test_where_nothing_fits_there_is_no_ladder():
    assert ladder(made(max_cost=0.01), Escalation(), replan) is None


def test_each_rung_is_planned_and_all_before_it_are_paid():
    plan = made()
    first, second, third = climbed(plan).rungs
    assert plan.chosen is not None
    assert (first.offer, first.worst_microusd) == (plan.chosen.offer, plan.chosen.worst_microusd)
    assert first.climbed_microusd == first.worst_microusd
    assert second.worst_microusd > first.worst_microusd  # more adapter
    assert third.climbed_microusd == sum(one.worst_microusd for one in (first, second, third))
    assert [one.refusal for one in (first, second, third)] == ["", "", ""]


def test_the_cap_ends_the_ladder_with_the_number_that_decided():
    first, second, third = climbed(made(max_cost=2)).rungs
    assert first.worst_microusd <= 2 * MICROUSD
    refusals = [one.refusal for one in (first, second, third)]
    assert refusals == ["", "worst $3.39 so far > cap $2", "worst $5.01 so far > cap $2"]


def test_a_rung_that_fits_nowhere_says_why_and_costs_nothing():
    long = Rung(strategy="qlora", set={"train.seq_len": 200_000})
    plan = made()
    first, second = climbed(plan, Escalation(rungs=(long,))).rungs
    assert second.offer is None
    assert "needs" in second.refusal
    assert second.climbed_microusd == first.climbed_microusd


def test_a_rung_s_bad_key_is_refused_by_name():
    with pytest.raises(BadInput, match=r"escalation: lora\.rank: unknown key"):
        job_of(JUDGED, Rung(strategy="lora", set={"lora.rank": 8}))


@pytest.mark.parametrize("key", ["gates", "eval.max_new_tokens", "model.id", "strategy", "seed"])
def test_a_rung_cannot_move_the_bar(key: str):
    with pytest.raises(BadInput, match=f"cannot set {key}"):
        job_of(JUDGED, Rung(strategy="lora", set={key: 1}))


def gate(value: float | None, least: float | None = 0.9, most: float | None = None) -> GateResult:
    passed = (
        value is not None and (least is None or value >= least) and (most is None or value <= most)
    )
    return GateResult(metric="m", min=least, max=most, value=value, passed=passed)


@pytest.mark.parametrize(
    ("gates", "to"),
    [
        ([gate(0.85)], 1),  # 85 of 90
        ([gate(0.84)], 2),
        ([gate(0.89), gate(0.95)], 1),  # the one that passed has no say
        ([gate(0.89), gate(0.5)], 2),
        ([gate(None)], 3),  # not measured: no rung would change that
        ([gate(None), gate(0.89)], 2),
        ([gate(1.05, least=None, most=1.0)], 1),  # an error: the less, the better
        ([gate(1.2, least=None, most=1.0)], 2),
        ([gate(-0.94, least=-0.9)], 2),  # no share of a negative bound is near it
    ],
)
def test_how_far_a_gate_was_missed_decides(gates: list[GateResult], to: int):
    assert after(RUNGS, 0, gates, 0.94) == to


def test_the_top_has_nothing_above():
    assert after(RUNGS, 2, [gate(0.5)], 0.94) == 3
    assert after(RUNGS[:2], 0, [gate(0.5)], 0.94) == 2


def test_the_plan_shows_it():
    plan = made()
    text = plan_text(msgspec.structs.replace(plan, ladder=climbed(plan)))
    _, shown = text.split("when a gate fails:\n")
    lines = shown.splitlines()[2:]
    assert lines[0].startswith("→  qlora ")
    assert "qlora, lora.r = 32, lora.alpha = 64  a near miss" in lines[1]
    assert lines[2].startswith("+  lora ")
    assert rung_flags(RUNGS[1]) == "--strategy qlora --set lora.r=32 --set lora.alpha=64"
