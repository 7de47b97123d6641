"""Pure: which rungs a job may climb when its gates fail, and what each of them would cost.

A rung says what is trained, never on what: the planner finds that anew for each.
"""

from collections.abc import Iterator, Sequence

import msgspec

from jobs.spec import GateResult, JobSpec
from launcher.errors import BadInput
from launcher.inputs.validate import convert
from launcher.inputs.yaml_tree import put
from launcher.planning.refusals import usd
from launcher.planning.ways_out import Replan
from launcher.types import Escalation, Ladder, Plan, Rung, RungPlan

# What judges the attempts is the same for all of them.
_FIXED = ("gates", "eval", "task", "model", "strategy", "seed")


def ladder(plan: Plan, escalation: Escalation, replan: Replan) -> Ladder | None:
    """The plan's own choice and what comes after it, each rung planned on the offers that hold the
    plan's limits; on all, where none of these holds the rung.

    None where no gate can fail, or nothing is chosen. Raises BadInput for a change that the
    job cannot make.
    """
    chosen = plan.chosen
    if chosen is None or chosen.spec is None or not plan.job.gates:
        return None
    first = Rung(strategy=chosen.spec.strategy)
    found = [_rung_plan(first, plan, 0)]
    holding = tuple(c.offer for c in plan.candidates if c.verdict != "rejected")
    # they are what --on and --gpu left
    among_them = msgspec.structs.replace(plan.budget, providers=(), gpu=None)
    for rung, job in _later(escalation, plan.job, first):
        made = replan(job, among_them, holding)
        if made.chosen is None:  # what was too small or too dear for the first may do
            made = replan(job, plan.budget)
        found.append(_rung_plan(rung, made, found[-1].climbed_microusd))
    return Ladder(near_miss=escalation.near_miss, rungs=tuple(found))


def job_of(job: JobSpec, rung: Rung) -> JobSpec:
    """The job as this rung has it. Raises BadInput."""
    tree = msgspec.to_builtins(job)
    for key, value in rung.set.items():
        if key.split(".")[0] in _FIXED:
            raise BadInput(f"escalation: a rung cannot set {key}: it is the same for all of them")
        put(tree, key, value)
    tree["strategy"] = rung.strategy
    return convert(tree, JobSpec, {}, "escalation")


def after(rungs: Sequence[Rung], at: int, gates: Sequence[GateResult], near_miss: float) -> int:
    """The number of the rung to climb to from rung `at`, whose gates these are; as many as there
    are rungs when none is left."""
    near = all(_nearly(gate, near_miss) for gate in gates if not gate.passed)
    later = range(at + 1, len(rungs))
    return next((n for n in later if near or not rungs[n].near_miss_only), len(rungs))


def _nearly(gate: GateResult, near_miss: float) -> bool:
    """Whether the value reaches so much of each bound that it misses."""
    value = gate.value
    if value is None:
        return False
    reached = gate.min is None or value >= gate.min * near_miss
    return reached and (gate.max is None or value * near_miss <= gate.max)


def _later(escalation: Escalation, job: JobSpec, first: Rung) -> Iterator[tuple[Rung, JobSpec]]:
    """The rungs from the first one's strategy on; one that changes nothing, or makes the adapter
    smaller, is none."""
    seen = [job_of(job, first)]
    begun = False
    for rung in escalation.rungs:
        begun = begun or rung.strategy == first.strategy
        climbed = job_of(job, rung)
        if begun and climbed not in seen and climbed.lora.r >= job.lora.r:
            seen.append(climbed)
            yield rung, climbed


def _rung_plan(rung: Rung, plan: Plan, before_microusd: int) -> RungPlan:
    chosen, cap = plan.chosen, plan.budget.max_cost_microusd or 0
    if chosen is None:
        nearest = plan.candidates[0].reason if plan.candidates else "no offer is left"
        return RungPlan(
            rung=rung, offer=None, expected_microusd=0, worst_microusd=0,
            climbed_microusd=before_microusd, refusal=nearest,
        )  # fmt: skip
    climbed = before_microusd + chosen.worst_microusd
    refusal = f"worst {usd(climbed)} so far > cap {usd(cap)}" if climbed > cap else ""
    return RungPlan(
        rung=rung, offer=chosen.offer, expected_microusd=chosen.expected_microusd,
        worst_microusd=chosen.worst_microusd, climbed_microusd=climbed, refusal=refusal,
    )  # fmt: skip
