"""Pure: which rungs a job may climb when its gates fail, what each of them would cost, which step
comes after the runs so far, and which of them is the best.

A rung says what is trained, never on what: the planner finds that anew for each.
"""

from collections.abc import Iterator, Sequence
from math import inf

import msgspec

from jobs.spec import GateResult, JobSpec, Strategy, adapter_shape
from launcher.errors import BadInput
from launcher.inputs.validate import convert
from launcher.inputs.yaml_tree import put
from launcher.planning.refusals import usd
from launcher.planning.ways_out import Replan
from launcher.types import (
    Escalation,
    Ladder,
    Plan,
    Refused,
    Rung,
    RungPlan,
    Standing,
    Step,
    Tried,
)

# What judges the attempts is the same for all of them.
_FIXED = ("gates", "eval", "task", "model", "strategy", "seed")

# After running out of memory: cards of one size differ by what their drivers count, so a larger one
# has a twentieth more. Assumption.
LARGER = 1.05


def ladder(plan: Plan, escalation: Escalation, replan: Replan) -> Ladder | None:
    """The plan's own choice and what comes after it, each rung planned on the offers that hold the
    plan's limits; on all, where none of these holds the rung.

    Where no gate can fail the first rung is the only one: out of memory, it is tried in less. None
    where nothing is chosen. Raises BadInput for a change that the job cannot make.
    """
    chosen = plan.chosen
    if chosen is None or chosen.spec is None:
        return None
    first = _of_the_choice(escalation, chosen.spec.strategy)
    found = [_rung_plan(first, plan, 0)]
    if not plan.job.gates:
        return Ladder(near_miss=escalation.near_miss, rungs=tuple(found))
    holding = tuple(c.offer for c in plan.candidates if c.verdict != "rejected")
    # they are what --on and --gpu left
    among_them = msgspec.structs.replace(plan.budget, providers=(), gpu=None)
    for rung, job in _later(escalation, plan.job, first):
        made = replan(job, among_them, holding)
        if made.chosen is None:  # what was too small or too dear for the first may do
            made = replan(job, plan.budget)
        found.append(_rung_plan(rung, made, found[-1].climbed_microusd))
    return Ladder(near_miss=escalation.near_miss, rungs=tuple(found))


def _of_the_choice(escalation: Escalation, strategy: Strategy) -> Rung:
    """The plan's own choice: as often as the recipe lets a plain rung of its strategy start."""
    plain = (one for one in escalation.rungs if one.strategy == strategy and not one.set)
    return msgspec.structs.replace(next(plain, Rung(strategy=strategy)), near_miss_only=False)


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
    are rungs when none is left, or no gate was missed by a value."""
    if without_value(gates):
        return len(rungs)
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
    smaller, is none, nor is one whose adapter or base the job's `resume_from` does not have."""
    seen = [job_of(job, first)]
    begun = False
    for rung in escalation.rungs:
        begun = begun or rung.strategy == first.strategy
        if job.resume_from is not None and rung.strategy != first.strategy:
            continue
        climbed = job_of(job, rung)
        if job.resume_from is not None and adapter_shape(climbed.lora) != adapter_shape(job.lora):
            continue
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


# --- what comes next ------------------------------------------------------------------------


def next_step(
    ladder: Ladder, tried: Sequence[Tried], left_microusd: int | None, refused: Sequence[Refused]
) -> Step:
    """What to do after the runs so far, the last of them last, with so much of the cap left.

    A step to another rung, or to the same in less memory, is to be planned at the prices of now
    under what is left; where nothing holds it, it is asked about again among `refused`. Each step
    starts what has not been tried, so that a climb ends.
    """
    last = tried[-1]
    if last.state == "SUCCEEDED" and last.reason is None:
        return Step(move="done", why="every gate passed" if last.gates else "no gate was set")
    options = list(_options(ladder, tried))
    seen = [one.step for one in refused]
    for step in options:
        if step not in seen:
            return step
    return _stop(ladder, tried, left_microusd, refused)


def _options(ladder: Ladder, tried: Sequence[Tried]) -> Iterator[Step]:
    """The steps that the last run allows, the first to be tried first."""
    last = tried[-1]
    if last.reason == "GATE_FAILED":
        yield from _upwards(ladder, last)
        return
    started = sum(one.starts for one in tried if one.rung == last.rung)
    if started >= ladder.rungs[last.rung].rung.attempts:
        return
    if last.reason == "OUT_OF_MEMORY":
        yield from _smaller(last)
    if last.reason == "PREEMPTED":
        why = "its machine was taken back: it goes on from its last checkpoint"
        yield Step(move="again", rung=last.rung, why=why)
    if last.reason == "NO_CAPACITY":
        yield Step(move="again", rung=last.rung, why="no capacity there: the next offer")


def _upwards(ladder: Ladder, last: Tried) -> Iterator[Step]:
    rungs = [one.rung for one in ladder.rungs]
    number = last.rung
    while (number := after(rungs, number, last.gates, ladder.near_miss)) < len(rungs):
        why = f"{_missed(last.gates, ladder.near_miss)}: {rungs[number].name}"
        yield Step(move="climb", rung=number, why=why)


def without_value(gates: Sequence[GateResult]) -> list[str]:
    """The metrics of the failed gates, where none of them could be taken: nothing shows that
    another training would help. Empty where one was missed by its value."""
    failed = [gate for gate in gates if not gate.passed]
    return [gate.metric for gate in failed] if all(gate.value is None for gate in failed) else []


def _smaller(last: Tried) -> Iterator[Step]:
    """Fewer rows at once, then checkpointing, where there is no less memory; then more of it."""
    rows, least = last.micro_batch, last.device_bytes
    said = f"out of memory with {rows} row{'s' if rows > 1 else ''} at once"
    fewer = next((n for n in range(rows // 2, 0, -1) if rows % n == 0), 0)
    if fewer:
        change = {"train.micro_batch": fewer, "train.activation_checkpointing": last.checkpointing}
        why = f"{said}: {fewer}"
        yield Step(move="smaller", rung=last.rung, set=change, least_bytes=least, why=why)
    if not last.checkpointing:
        change = {"train.micro_batch": rows, "train.activation_checkpointing": True}
        why = f"{said}: activations checkpointed"
        yield Step(move="smaller", rung=last.rung, set=change, least_bytes=least, why=why)
    larger, why = int(least * LARGER), f"{said}: a card with more memory"
    yield Step(move="smaller", rung=last.rung, least_bytes=larger, why=why)


def _missed(gates: Sequence[GateResult], near_miss: float) -> str:
    failed = [gate for gate in gates if not gate.passed]
    how = "nearly passed" if all(_nearly(gate, near_miss) for gate in failed) else "failed"
    return f"{', '.join(gate.metric for gate in failed)} {how}"


def _stop(
    ladder: Ladder, tried: Sequence[Tried], left: int | None, refused: Sequence[Refused]
) -> Step:
    """Why no step is left; with what more money would have bought, where it would."""
    last = tried[-1]
    dearer = [one for one in refused if one.needs_microusd is not None]
    if dearer and left is not None:
        nearest = min(dearer, key=lambda one: one.needs_microusd or 0)
        needs, name = nearest.needs_microusd or 0, ladder.rungs[nearest.step.rung].rung.name
        total = sum(one.spent_microusd for one in tried) + needs
        why = f"the cap: {usd(left)} left, {name} takes {usd(needs)} at worst; "
        return Step(move="stop", why=why + f"a cap of {usd(total)} would pay it", cut_short=True)
    if refused:
        why = "; ".join(f"{ladder.rungs[r.step.rung].rung.name}: {r.why}" for r in refused)
        short = any(one.cut_short for one in refused)
        return Step(move="stop", why=f"no way up fits: {why}", cut_short=short)
    if last.reason == "GATE_FAILED":
        names = ", ".join(without_value(last.gates))
        if names:
            why = f"{names}: no value, which is no miss that another rung would mend"
            return Step(move="stop", why=why)
        return Step(move="stop", why="the ladder has no rung for this")
    if last.reason in ("OUT_OF_MEMORY", "PREEMPTED", "NO_CAPACITY"):
        most = ladder.rungs[last.rung].rung.attempts
        return Step(move="stop", why=f"{last.reason} after all {most} starts of this rung")
    over = last.reason == "BUDGET_EXCEEDED"
    return Step(move="stop", why=f"{last.run_id}: {last.reason} ends the climb", cut_short=over)


def best(tried: Sequence[Tried]) -> int | None:
    """The best of the runs that were trained to their end: by gates passed, then by the first
    gate's metric, then by cost; the earlier of equals. None where there is none."""
    ended = [n for n, one in enumerate(tried) if one.state == "SUCCEEDED"]
    return max(
        ended, key=lambda n: (*_rank(tried[n].gates), -tried[n].spent_microusd, -n), default=None
    )


def best_of(standings: Sequence[Standing]) -> str:
    """The best run of a sweep, by gates passed, loss on the validation rows, the first gate's
    metric and cost; "" where none was trained to its end.

    The gates' metrics are of the test rows, by which nothing is chosen that the validation rows
    tell apart.
    """
    ended = [one for one in standings if one.state == "SUCCEEDED"]
    found = max(ended, key=_standing_rank, default=None)
    return found.run_id if found is not None else ""


def _standing_rank(one: Standing) -> tuple[int, bool, float, float, int]:
    passed, first = _rank(one.gates)
    loss = inf if one.loss is None else one.loss
    on_validation = one.loss is not None and one.loss_on == "validation"
    return passed, on_validation, -loss, first, -one.spent_microusd


def _rank(gates: Sequence[GateResult]) -> tuple[int, float]:
    first = gates[0] if gates else None
    if first is None or first.value is None:
        value = -inf
    else:
        value = -first.value if first.min is None else first.value
    return sum(gate.passed for gate in gates), value
