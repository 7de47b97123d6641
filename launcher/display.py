"""Text for people: the plan's table, the receipt, lists of runs. Returns strings."""

from collections.abc import Iterable, Sequence

from jobs.spec import ExportResult, Measured, PhaseRecord, ResolvedSpec, Result, StepRecord
from launcher.estimate.calibration import basis
from launcher.refusals import gib, usd
from launcher.types import GIB, MICROUSD, Budget, Candidate, DataFacts, Estimate, Plan, Run, View
from results.receipt import Receipt, dollars, duration
from results.report import (
    crossing_note,
    fit_line,
    gate_line,
    judged_on,
    phase_rows,
    pilot_line,
    quality_rows,
    receipt_rows,
    spent_line,
)

_SIGNS = {"chosen": "→", "possible": "+", "rejected": "-"}


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Rows under a head, columns as wide as their longest cell; the last column runs on."""
    right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(
        1, "  ".join("─" * width for width in widths[:-1]) + "  " + "─" * min(widths[-1], 24)
    )
    return "\n".join(lines) + "\n"


def count(parameters: int) -> str:
    """A model's size as people name it."""
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"


_WHERE = ("", "provider", "instance", "GPU", "strategy", "micro-batch")
_NEEDS = ("needs GiB", "usable", "share", "time", "at worst", "speed")
_COSTS = ("expected", "at worst", "price of", "why")


def offers_table(plan: Plan) -> str:
    """Every candidate with what it needs, costs, and why it was chosen or not."""
    rows = [(*_WHERE, *_NEEDS, *_COSTS), *(_candidate(c) for c in plan.candidates)]
    text = table(rows, right=(6, 7, 8, 9, 10, 12, 13))
    if any(c.dearer for c in plan.candidates):
        text += "(+N): as many dearer offers of the same card there\n"
    return text + (f"{plan.left_out} more left out by --on or --gpu\n" if plan.left_out else "")


def _candidate(c: Candidate) -> list[str]:
    offer, estimate = c.offer, c.estimate
    usable = offer.device.usable_bytes
    count = f"{offer.count}× " if offer.count > 1 else ""
    instance = offer.instance + (" spot" if offer.spot else "")
    left = [_SIGNS[c.verdict], offer.provider, instance + (f" (+{c.dearer})" if c.dearer else "")]
    left += [count + offer.device.name, c.spec.strategy if c.spec is not None else ""]
    left.append(micro_batch(c.spec) if c.spec is not None else "")
    if estimate is None:
        return [*left, "", gib(usable), *[""] * 6, offer.as_of, c.reason]
    need = estimate.memory_upper_bytes
    share = f"{need / usable:.0%}" if usable else ""
    return [
        *left,
        gib(need),
        gib(usable),
        share,
        duration(estimate.hours_expected),
        duration(estimate.hours_high),
        estimate.speed,
        dollars(c.expected_microusd),
        usd(c.worst_microusd),
        offer.as_of,
        c.reason,
    ]


def micro_batch(spec: ResolvedSpec) -> str:
    """The micro-batch, and whether activations are checkpointed."""
    train, rows = spec.train, spec.train.rows_at_once
    return f"{rows} ckpt" if train.activation_checkpointing else str(rows)


def plan_text(plan: Plan) -> str:
    """The plan as a page: what, on what data, who set which value, where, and the choice."""
    job, data = plan.job, plan.data
    cap = plan.budget.max_cost_microusd
    lines = [
        f"run       {plan.run_id}",
        f"recipe    {plan.recipe}",
        f"model     {plan.model.id} ({plan.model.architecture}, "
        f"{count(plan.model.parameters)} parameters, from {plan.model.source})",
        f"data      {_data(data)}",
        f"strategy  {job.strategy}, r {job.lora.r}, alpha {job.lora.alpha}, "
        f"{job.train.epochs:g} epochs, batch {job.train.effective_batch}, "
        f"{job.train.seq_len} tokens",
        *([f"judged by {_judged_by(plan)}"] if job.eval.judges_answers else []),
        *([f"pilot     {_pilot(plan)}"] if job.pilot is not None else []),
        f"limits    {'no --max-cost: only what costs nothing' if cap is None else dollars(cap)}, "
        f"{plan.budget.max_hours:g} h{_electricity(plan.budget)}",
    ]
    if job.resume_from is not None:
        lines.append(f"goes on   from {job.resume_from}")
    for s in plan.settings:
        lines.append(
            f"  set     {s.key} = {s.value}  ({_source(s.source)}; instead of {s.instead_of})"
        )
    lines += [f"  WARNING {warning}" for warning in plan.warnings]
    parts = ["\n".join(lines), offers_table(plan).rstrip()]
    chosen = plan.chosen
    parts.append(_choice(chosen) if chosen is not None else "nothing fits")
    return "\n\n".join(parts) + "\n"


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
            f"{t.name} {_signed(t.expected_hours)}"
            for t in estimate.time
            if t.expected_hours or t.high_hours
        ),
    ]
    if estimate.calibrated_on:
        assert chosen.spec is not None, "a chosen candidate has a spec"
        lines.append(basis(estimate.calibrated_on, chosen.spec.strategy, chosen.offer.device))
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


def _signed(hours: float) -> str:
    """A duration; what calibration takes away has a minus."""
    return f"-{duration(-hours)}" if hours < 0 else duration(hours)


def estimate_text(plan: Plan, candidate: Candidate) -> str:
    """Every term of one estimate, in bytes and hours, then the verdict for each offer."""
    estimate = candidate.estimate
    if estimate is None:
        return f"{candidate.offer.device.name}: {candidate.reason}\n"
    name = candidate.offer.device.name
    memory = [["memory", "bytes", "GiB", "why"]]
    memory += [[t.name, f"{t.bytes:,}", f"{t.bytes / GIB:.2f}", t.why] for t in estimate.memory]
    memory += [
        [what, f"{size:,}", f"{size / GIB:.2f}", why] for what, size, why in _sums(candidate)
    ]
    time = [["time", "low", "expected", "high", "why"]]
    for t in estimate.time:
        row = [_signed(h) for h in (t.low_hours, t.expected_hours, t.high_hours)]
        time.append([t.name, *row, t.why])
    head = (
        f"{plan.model.id} ({plan.model.parameters:,} parameters, "
        f"{estimate.parameters_trainable:,} trained) on {name}; "
        f"host RAM {gib(estimate.host_ram_bytes)} GiB, disk {gib(estimate.disk_bytes)} GiB"
    )
    if estimate.export:
        head += (
            f"; export needs {gib(estimate.export_bytes)} GiB more, and"
            f" {gib(estimate.export_ram_bytes)} GiB of RAM"
        )
    warnings = [f"WARNING {w}" for w in plan.warnings]
    assumed = ["assumed: " + "; ".join(estimate.assumptions)] if estimate.assumptions else []
    return (
        "\n\n".join(
            [
                "\n".join([head, *warnings]),
                table(memory, right=(1, 2)).rstrip(),
                table(time, right=(1, 2, 3)).rstrip(),
                *([table(_disk(estimate), right=(1, 2)).rstrip()] if estimate.disk else []),
                *assumed,
            ]
        )
        + "\n"
    )


def _disk(estimate: Estimate) -> list[list[str]]:
    """What the job keeps at its end, then what an export adds."""
    parts = [(t.name, t.bytes, t.why) for t in estimate.disk]
    parts.append(("at the job's end", estimate.disk_bytes, "all of these at once"))
    parts += [(f"export: {t.name}", t.bytes, t.why) for t in estimate.export]
    rows = [[name, f"{size:,}", f"{size / GIB:.2f}", why] for name, size, why in parts]
    return [["disk", "bytes", "GiB", "why"], *rows]


def _sums(candidate: Candidate) -> list[tuple[str, int, str]]:
    """(what, bytes, why) of what the terms add up to."""
    estimate, device = candidate.estimate, candidate.offer.device
    assert estimate is not None, "only what was estimated is shown"
    counters = []
    if device.kind == "cuda":
        counters = [
            ("allocated", estimate.memory_allocated_bytes, "torch.cuda.max_memory_allocated"),
            ("reserved", estimate.memory_reserved_bytes, "torch.cuda.max_memory_reserved"),
        ]
    free = device.usable_bytes - estimate.memory_upper_bytes
    room = f"{abs(free) / GIB:.2f} GiB {'stay free' if free >= 0 else 'too much'}"
    return [
        *counters,
        ("expected", estimate.memory_expected_bytes, ""),
        ("upper bound", estimate.memory_upper_bytes, f"of {gib(device.usable_bytes)} GiB: {room}"),
    ]


def list_runs(runs: Sequence[tuple[Run, int]]) -> str:
    """Runs with what each has cost so far, in micro-dollars."""
    rows = [["run", "state", "started", "where", "spent", "results"]]
    for run, cost in runs:
        where = run.attempts[-1].instance if run.attempts else ""
        state = _state(run)
        started = run.created_at[:16].replace("T", " ")
        rows.append([run.run_id, state, started, where, dollars(cost), run.folder or ""])
    return table(rows, right=(4,)) if runs else "no runs yet; `launch` starts one\n"


def _state(run: Run) -> str:
    """The run's state; what still bills when it has ended is said."""
    reason = f" ({run.reason})" if run.reason and run.reason != run.state else ""
    open_ones = {a.machine for a in run.attempts if a.machine != "GONE" and a.microusd_per_hour}
    billing = f", machine {' and '.join(sorted(open_ones))}" if run.ended and open_ones else ""
    return run.state + reason + billing


def status_text(view: View) -> str:
    """One run: state, reason, the newest of its metrics, what it has cost."""
    run = view.run
    lines = [f"{run.run_id}: {_state(run)}"]
    lines += [run.message] if run.message else []
    last = run.attempts[-1] if run.attempts else None
    if last is not None:
        where = f"attempt {last.attempt} on {last.provider} {last.instance}"
        lines.append(f"{where}, machine {last.machine}, {dollars(view.spent_microusd)} in all")
    lines += [f"NOT SEEN NOW: {view.unseen}"] if view.unseen else []
    if isinstance(view.last, StepRecord):
        lines.append(step_line(view.last, view.spent_microusd))
    elif isinstance(view.last, PhaseRecord):
        lines.append(f"phase {view.last.phase}, {dollars(view.spent_microusd)} spent")
    lines.append(f"files: {view.folder}")
    if run.state == "FAILED" and view.log_tail:
        lines += ["end of its log:", view.log_tail]
    return "\n".join(lines) + "\n"


def receipt_text(receipt: Receipt, result: Result | None) -> str:
    """The account at the end of a run, with its metrics and gates."""
    reason = f" ({receipt.reason})" if receipt.reason else ""
    parts = [f"{receipt.run_id}: {receipt.state}{reason}"]
    if result is not None and result.pilot is not None:
        parts.append(pilot_line(result.pilot))
    if result is not None and result.metrics:
        rows = [[*row, ""] for row in quality_rows(result)]
        shown = table(rows, right=range(1, len(rows[0]))).rstrip()
        parts.append(f"{judged_on(result)}:\n{shown}")
    if result is not None and result.fit is not None:
        parts.append(fit_line(result.fit))
    if result is not None and result.gates:
        lines = [f"gate {gate_line(gate)}" for gate in result.gates]
        parts.append("\n".join(filter(None, [*lines, crossing_note(result.gates)])))
    if result is not None and result.warnings:
        parts.append("\n".join(f"warning: {line}" for line in result.warnings))
    if receipt.phases:
        parts.append(table(phase_rows(receipt), right=(1, 2)).rstrip())
    parts.append(table(receipt_rows(receipt), right=(1, 2, 3, 4)).rstrip())
    return "\n\n".join([*parts, spent_line(receipt)]) + "\n"


def step_line(record: StepRecord, spent_microusd: int) -> str:
    """A step in one line: step, loss, rate, time left, dollars so far."""
    return (
        f"step {record.step}/{record.steps_total}  loss {record.loss:.4f}  "
        f"{record.tokens_per_second:,.0f} tokens/s  "
        f"{duration(record.eta_seconds / 3600)} left  {dollars(spent_microusd)}"
    )


def export_text(result: ExportResult) -> str:
    """What was shipped and what each file is worth; nothing where the export failed early."""
    lines = [f"WARNING {warning}" for warning in result.warnings]
    if result.files:
        names = [name for name in result.files[0].metrics if name != "loss"]
        head = ["file", "size", "perplexity", "against f16", *names, "prompt", "answer", "gates"]
        rows = [head, *(_measured(measured, names) for measured in result.files)]
        lines.append(table(rows, right=range(1, len(head) - 1)))
    shipped = [measured.file for measured in result.files if measured.shipped]
    kept = [name for name in (result.merged, *shipped, result.modelfile) if name is not None]
    if kept:
        lines.append(f"in {result.folder}: {', '.join(kept)}")
    lines += [f"next: {command}" for command in result.next]
    return "\n".join(lines) + "\n" if lines else ""


def _measured(measured: Measured, names: Sequence[str]) -> list[str]:
    failed = [gate.metric for gate in measured.gates if not gate.passed]
    verdict = f"FAIL {', '.join(failed)}" if failed else "pass" if measured.gates else "none"
    return [
        measured.file,
        _decimal(measured.size_bytes),
        f"{measured.perplexity:.4g}",
        f"{measured.perplexity_change:+.2%}",
        *(f"{measured.metrics[name]:.3f}" if name in measured.metrics else "n/a" for name in names),
        f"{measured.prompt_speed_ratio:.2f}x",
        f"{measured.generated_speed_ratio:.2f}x",
        verdict,
    ]


def _decimal(size_bytes: int) -> str:
    """A file's size, in the decimal units that file managers and Ollama show."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.2f} {unit}"
    return f"{size_bytes / 1e3:.0f} kB"
