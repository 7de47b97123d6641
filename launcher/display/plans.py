"""A plan for people: the offers' table, the choice and what it rests on."""

from jobs.spec import ResolvedSpec
from launcher.catalog.providers import NOBODY
from launcher.display.estimates import signed
from launcher.display.tables import count, table
from launcher.display.warnings import warning_lines
from launcher.estimate.calibration import basis, runs
from launcher.planning.refusals import gib, usd
from launcher.types import GIB, MICROUSD, Budget, Candidate, DataFacts, Estimate, Ladder, Plan, Rung
from results.receipt import dollars, duration

_SIGNS = {"chosen": "→", "possible": "+", "rejected": "-"}


_WHERE = ("", "provider", "instance", "GPU", "strategy", "micro-batch")


_NEEDS = ("needs GiB", "usable", "share", "time", "at worst", "speed")


_COSTS = ("expected", "at worst", "price of", "why")


def offers_table(plan: Plan) -> str:
    """Every candidate with what it needs, costs, and why it was chosen or not."""
    rows = [(*_WHERE, *_NEEDS, *_COSTS), *(candidate_row(c) for c in plan.candidates)]
    text = table(rows, right=(6, 7, 8, 9, 10, 12, 13))
    return text + "".join(f"{note}\n" for note in offer_notes(plan))


def offer_notes(plan: Plan) -> list[str]:
    """What the table of offers leaves out, or marks."""
    notes = []
    if any(c.dearer for c in plan.candidates):
        notes.append("(+N): as many dearer offers of the same card there")
    if plan.left_out:
        notes.append(f"{plan.left_out} more left out by --on or --gpu")
    return notes


def candidate_row(c: Candidate) -> list[str]:
    """One candidate's cells, a sign for its verdict first."""
    offer, estimate = c.offer, c.estimate
    usable = offer.device.usable_bytes
    instance = offer.instance + (" spot" if offer.spot else "")
    left = [_SIGNS[c.verdict], offer.provider, instance + (f" (+{c.dearer})" if c.dearer else "")]
    left += [offer.device_name, c.spec.strategy if c.spec is not None else ""]
    left.append(micro_batch(c.spec) if c.spec is not None else "")
    if estimate is None:
        as_of = offer.as_of if offer.provider != NOBODY else ""
        return [*left, "", gib(usable), *[""] * 6, as_of, c.reason]
    need = estimate.memory_upper_bytes
    share = f"{need / usable:.0%}" if usable else ""
    price = [dollars(c.expected_microusd), usd(c.worst_microusd), offer.as_of]
    return [
        *left,
        gib(need),
        gib(usable),
        share,
        duration(estimate.hours_expected),
        duration(estimate.hours_high),
        speed(estimate),
        *(price if offer.provider != NOBODY else [""] * 3),
        c.reason,
    ]


def speed(estimate: Estimate) -> str:
    """What is known of the device's; of one that runs of this ledger were on, that they were."""
    rests_on = estimate.calibrated_on
    return f"measured here ({runs(rests_on)})" if rests_on else estimate.speed


def micro_batch(spec: ResolvedSpec) -> str:
    """The micro-batch, and whether activations are checkpointed."""
    train, rows = spec.train, spec.train.rows_at_once
    return f"{rows} ckpt" if train.activation_checkpointing else str(rows)


def plan_text(plan: Plan, climbs: bool = True) -> str:
    """The plan as a page: what, on what data, who set which value, where, the choice, and where it
    climbs what may come after it."""
    job, data = plan.job, plan.data
    cap = plan.budget.max_cost_microusd
    lines = [
        f"run       {plan.run_id}",
        f"recipe    {plan.recipe}",
        f"model     {plan.model.id} ({plan.model.architecture}, "
        f"{count(plan.model.parameters)} parameters, from {plan.model.source})",
        f"data      {_data(data)}",
        f"strategy  {job.strategy}, r {job.lora.r}, alpha {job.lora.alpha}, "
        f"{job.train.epochs:g} epoch{'' if job.train.epochs == 1 else 's'}, "
        f"batch {job.train.effective_batch}, {job.train.seq_len} tokens",
        *([f"judged by {_judged_by(plan)}"] if job.eval.judges_answers else []),
        *([f"pilot     {_pilot(plan)}"] if job.pilot is not None else []),
        f"limits    {'no --max-cost: only what costs nothing' if cap is None else usd(cap)}, "
        f"{plan.budget.max_hours:g} h{_electricity(plan.budget)}",
    ]
    if plan.budget.image:
        lines.append(f"image     {plan.budget.image}")
    if job.resume_from is not None:
        lines.append(f"goes on   from {job.resume_from}")
    for s in plan.settings:
        lines.append(
            f"  set     {s.key} = {s.value}  ({_source(s.source)}; instead of {s.instead_of})"
        )
    lines += [f"  {line}" for line in warning_lines([plan])]
    parts = ["\n".join(lines), offers_table(plan).rstrip()]
    chosen = plan.chosen
    parts.append(_choice(chosen) if chosen is not None else "nothing fits")
    if climbs and plan.ladder is not None and len(plan.ladder.rungs) > 1:
        parts.append(_ladder(plan.ladder))
    return "\n\n".join(parts) + "\n"


def _ladder(ladder: Ladder) -> str:
    """What failed gates may lead to, and how far up the cap allows."""
    head = ["", "rung", "after", "where", "expected", "at worst", "so far at worst", ""]
    return "when a gate fails:\n" + table([head, *rung_rows(ladder)], right=(4, 5, 6)).rstrip()


def rung_rows(ladder: Ladder) -> list[list[str]]:
    """The rungs in order, a sign first."""
    rows = []
    for number, rung in enumerate(ladder.rungs):
        after = "" if not number else "a near miss" if rung.rung.near_miss_only else "a miss"
        worst = [usd(rung.worst_microusd), usd(rung.climbed_microusd)]
        where = f"{rung.offer.provider} {rung.offer.device.name}" if rung.offer is not None else ""
        costs = [dollars(rung.expected_microusd), *worst] if rung.offer is not None else [""] * 3
        sign = "→" if not number else "-" if rung.refusal else "+"
        rows.append([sign, rung.rung.name, after, where, *costs, rung.refusal])
    return rows


def rung_flags(rung: Rung) -> str:
    """The flags that make a job this rung's."""
    changes = [f"--set {key}={value}" for key, value in rung.set.items()]
    return " ".join([f"--strategy {rung.strategy}", *changes])


def _electricity(budget: Budget) -> str:
    rate = budget.local_microusd_per_hour
    return f"; this machine costs ${rate / MICROUSD:g} an hour" if rate else ""


def _data(data: DataFacts) -> str:
    """Sizes of the sets, what the rows were recognised as, what was found twice."""
    sets = {"training": data.train_rows, "validation": data.validation_rows}
    sets |= {"test": data.test_rows} if data.test_rows else {}
    *first, last = [f"{rows} {name}" for name, rows in sets.items()]
    parts = [f"{', '.join(first)} and {last} rows"]
    if data.replay_rows:
        parts.append(f"up to {data.replay_rows} of the training rows replayed")
    if len(data.shapes) == 1:
        parts.append(f"each {next(iter(data.shapes))}")
    else:
        parts += [f"{rows} {shape}" for shape, rows in sorted(data.shapes.items())]
    parts.append(f"longest {data.longest_characters} characters")
    if data.repeated_rows:
        parts.append(f"{data.repeated_rows} repeat an earlier question")
    return ", ".join(parts)


def _judged_by(plan: Plan) -> str:
    settings, data = plan.job.eval, plan.data
    parts = [f"{data.golden_rows} golden questions" if settings.golden else ""]
    parts += ["a JSON schema" if settings.schema else ""]
    parts += [entry.rpartition("/")[2] for entry in settings.metrics]
    return ", ".join(filter(None, parts))


def _pilot(plan: Plan) -> str:
    pilot = plan.job.pilot
    assert pilot is not None, "asked only where there is one"
    return f"{pilot.steps} steps on {pilot.examples} rows first; a hopeless run ends there"


def _source(source: str) -> str:
    return source.rsplit("/", 1)[-1] if source.startswith("/") else source


def _choice(chosen: Candidate) -> str:
    estimate = chosen.estimate
    assert estimate is not None, "a chosen candidate has an estimate"
    lines = [
        f"chosen: {chosen.offer.provider} {chosen.offer.instance} {chosen.offer.device.name}: "
        f"{dollars(chosen.expected_microusd)} expected, {usd(chosen.worst_microusd)} at worst",
        f"step:   {_step(chosen.spec)}",
        f"memory: {_terms(estimate)}",
        "time:   "
        + ", ".join(
            f"{t.name} {signed(t.expected_hours)}"
            for t in estimate.time
            if t.expected_hours or t.high_hours
        ),
    ]
    if estimate.calibrated_on:
        assert chosen.spec is not None, "a chosen candidate has a spec"
        offer = chosen.offer
        lines.append(basis(estimate.calibrated_on, chosen.spec.strategy, offer.device, offer.count))
    return "\n".join(lines)


def _step(spec: ResolvedSpec | None) -> str:
    assert spec is not None, "a chosen candidate has a spec"
    train, rows = spec.train, spec.train.rows_at_once
    passes = max(1, train.effective_batch // (rows * spec.processes))
    times = f"{passes} × " if passes > 1 else ""
    each = f" on each of {spec.processes} GPUs" if spec.processes > 1 else ""
    kept = "checkpointed" if train.activation_checkpointing else "kept"
    at_once = f"{rows} row{'s' if rows > 1 else ''} at once"
    return f"{times}{at_once}{each}, activations {kept}, {spec.dtype}"


def _terms(estimate: Estimate) -> str:
    parts = [f"{t.name} {t.bytes / GIB:.2f}" for t in estimate.memory if abs(t.bytes) >= GIB // 200]
    return (
        " + ".join(parts) + f" = {estimate.memory_expected_bytes / GIB:.2f} GiB, "
        f"at most {estimate.memory_upper_bytes / GIB:.2f}"
    )
