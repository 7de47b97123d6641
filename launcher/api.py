"""The library's face: plan, checks, submit, follow, status, logs, cancel, collect, publish, canary,
adopt.

A run is a plan, then a submit: `plan` touches nothing, and what it returns is exactly what
`submit` acts on.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobs.spec import JobSpec, ResolvedSpec, Strategy, name_disagrees, named_parameters
from launcher import paths, planner, recipes
from launcher.catalog import enabled, merge
from launcher.catalog.local import Survey, survey
from launcher.catalog.priced import Listing
from launcher.catalog.providers import LOCAL
from launcher.checking.taking import ready
from launcher.errors import BadInput, OutsideFailed
from launcher.estimate import estimate, shapes
from launcher.estimate.calibration import calibrate
from launcher.executors.environment import PYTHON_VARIABLE
from launcher.inputs import continuing, hub_data, scanning, tokens, unchanged
from launcher.inputs.judging import scan_judging
from launcher.ladder import job_of, ladder
from launcher.ledger import measurements
from launcher.paths import is_remote
from launcher.planner import Estimator
from launcher.planning.canary import (
    ANY_COST,
    COLLECT_MINUTES,
    MAX_HOURS,
    CanaryReceipt,
    PartName,
    affordable,
    capped,
    choosing,
    require_affordable,
)
from launcher.planning.selection import asked_for, in_regions, require_known
from launcher.planning.ways_out import Replan, ways_out
from launcher.preflight import checks, require_licence, require_publishable
from launcher.running import budgets
from launcher.running.adopting import adopt
from launcher.running.budgets import Project, project
from launcher.running.climbs import carried_on
from launcher.running.clock import spent, utc_now
from launcher.running.collecting import collect
from launcher.running.reconciling import ledger
from launcher.running.runs import DEFAULT_STORE, cancel, require_choice, resume, resumption, submit
from launcher.running.watching import exists, follow, logs, minutes_unfetched, runs, status
from launcher.times import stamp
from launcher.types import (
    MICROUSD,
    Account,
    Budget,
    DataFacts,
    ModelFacts,
    Offer,
    Plan,
    Rung,
    Setting,
)

if TYPE_CHECKING:
    from launcher.running.publishing import PublishFlags
    from results.hub import Published

__all__ = [
    "DEFAULT_STORE",
    "account",
    "adopt",
    "canary",
    "cancel",
    "checks",
    "collect",
    "compare",
    "exists",
    "follow",
    "guard",
    "logs",
    "minutes_unfetched",
    "offers",
    "plan",
    "plan_rung",
    "project",
    "project_left",
    "prove",
    "publish",
    "ready",
    "require_choice",
    "require_licence",
    "require_publishable",
    "resume",
    "resumption",
    "runs",
    "spent",
    "status",
    "submit",
    "utc_now",
]


def guard(*, watch: bool = False) -> Iterator[str]:
    """Hold every run's cap from here, and go on with climbs whose launcher is gone: what was found
    and done, in lines; with `watch` until nothing may cost money any more."""
    from launcher import guard

    book = ledger()
    if watch:
        yield from guard.watch(book, carried_on)
    else:
        yield from guard.round_of(book)
        yield from carried_on(book)


def project_left(asked: Project) -> int:
    """Micro-dollars that the project has for another run. Raises BadInput where it has no cap."""
    return budgets.project_left(ledger(), asked)


def account(name: str) -> Account:
    """A project's budget, after a look at its runs. Raises BadInput for one without a budget."""
    book = ledger()
    found = budgets.account(book, name)
    runs(found)
    return budgets.account(book, name)


def publish(run: str, repository: str, flags: "PublishFlags | None" = None) -> "Published":
    """Publish a run, by its id or folder, as ORG/NAME on the Hub. Raises LaunchError."""
    from launcher.running import publishing

    return publishing.publish(run, repository, flags or publishing.PublishFlags())


# What `compare` lays side by side.
COMPARED: tuple[Strategy, ...] = ("qlora", "lora", "full")

RUN_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"  # names folders: no dots, no slashes


def offers(
    today: str,
    providers: tuple[str, ...] = (),
    gpu: str | None = None,
    *,
    regions: tuple[str, ...] = (),
    spot: bool = False,
    max_hourly_microusd: int | None = None,
) -> Listing:
    """Everything that could be had, this machine first; and the rows of price lists left out.

    `spot` keeps the instances that have a spot price. Raises BadInput with the nearest names for a
    provider, GPU or region that nobody knows.
    """
    listing = _catalog(today)
    found = (*survey(today).offers, *listing.offers)
    require_known(found, providers, gpu, regions)
    with_spot = {(offer.provider, offer.instance) for offer in found if offer.spot}
    asked = Budget(providers=providers, gpu=gpu)
    taken = tuple(
        offer
        for offer in found
        if asked_for(offer, asked)
        and in_regions(regions, offer)
        and (not spot or (offer.provider, offer.instance) in with_spot)
        and (max_hourly_microusd is None or offer.microusd_per_hour <= max_hourly_microusd)
    )
    named = {name.lower() for name in providers}
    left_out = (entry for entry in listing.dropped if not named or entry.provider in named)
    return Listing(taken, tuple(left_out))


def _catalog(today: str) -> Listing:
    """Every price list, with what is known of where SkyPilot may rent."""
    listing = merge.offers(today)
    return Listing(enabled.marked(listing.offers, enabled.last_check()), listing.dropped)


def plan(
    recipe: str | None,
    flags: recipes.Flags,
    *,
    run_id: str | None = None,
    now: datetime,
    advise: bool = True,
    store: str = DEFAULT_STORE,
    at_most_microusd: int | None = None,
) -> Plan:
    """What would be trained, where, for how much, and why not elsewhere. Starts nothing.

    `at_most_microusd`: what a project has left, which --max-cost cannot exceed.

    What goes to an s3:// `store` while the run is made is counted. With `advise`, a plan in which
    nothing fits says what would, and one whose gates may fail what the rungs after it would cost:
    it is planned again for that.

    Raises BadInput for what is wrong with recipe, flags, data or model; a plan in which nothing
    fits is returned, not raised: `submit` refuses it.
    """
    if run_id is not None and not re.fullmatch(RUN_ID, run_id):
        raise BadInput(f"--run-id {run_id}: expected letters, digits, - and _, 64 at most")
    request = _request(recipe, flags, now)
    planned = _planning(request, run_id, now)
    caps = [c for c in (request.budget.max_cost_microusd, at_most_microusd) if c is not None]
    budget = msgspec.structs.replace(
        request.budget, to_bucket=is_remote(store), max_cost_microusd=min(caps, default=None)
    )
    made = planned(request.job, budget)
    if advise:
        fixed = request.exact is not None
        made = msgspec.structs.replace(
            made,
            ways_out=ways_out(made, planned, fixed),
            ladder=None if fixed else ladder(made, request.escalation, planned),
        )
    continuing.require_continuable(made)
    if request.exact is not None:
        _require_same(request.exact, made)
    return made


def compare(recipe: str | None, flags: recipes.Flags, *, now: datetime) -> tuple[Plan, ...]:
    """The same job planned under each strategy, QLoRA first. Raises as `plan` does."""
    request = _request(recipe, flags, now)
    planned = _planning(request, None, now)
    jobs = [msgspec.structs.replace(request.job, strategy=strategy) for strategy in COMPARED]
    return tuple(planned(job, request.budget) for job in jobs)


def canary(
    provider: str,
    gpu: str | None,
    max_cost: float,
    names: tuple[PartName, ...],
    store: str,
    *,
    now: datetime,
    say: Callable[[str], None],
) -> Plan:
    """The sample job planned where `max_cost` dollars pay for all these parts, checked, and at the
    price of now: what `prove` acts on. Starts nothing. Raises as `plan` and `ready` do."""
    if provider.lower() == LOCAL:
        raise BadInput("--on local: a canary proves what is rented; name a provider")
    flags = recipes.Flags(
        providers=(provider,),
        gpu=gpu,
        max_cost=ANY_COST,  # the parts' shares are held against the cap, not the sample job's worst
        max_hours=MAX_HOURS,
        sets=(f"budget.collect_minutes={COLLECT_MINUTES}",),
    )
    cap = round(max_cost * MICROUSD)
    run_id = _new_run_id("canary", now)
    made = plan(str(paths.sample_recipe()), flags, run_id=run_id, now=now, advise=False)
    require_choice(made)
    taken = affordable(capped(made, cap), names)
    checked = ready(choosing(made, taken.candidates[0]), store, None, say)
    require_affordable(capped(checked, cap), names)
    return capped(checked, cap)


def prove(
    made: Plan, names: tuple[PartName, ...], store: Path, say: Callable[[str], None]
) -> CanaryReceipt:
    """Run these parts of a canary; what was proved, with failures in it."""
    from launcher.running.canary import proving  # SkyPilot's executor, which no plan needs

    return proving.prove(made, names, store, say)


def _request(recipe: str | None, flags: recipes.Flags, now: datetime) -> recipes.Request:
    # People name files by their own calendar, not by UTC's.
    request = recipes.load(recipe, flags, now.astimezone().date().isoformat())
    request = _with_hub_data(request)
    return msgspec.structs.replace(request, job=continuing.settled(request.job))


def _scanned(request: recipes.Request, now: datetime) -> DataFacts:
    job = request.job
    if request.assumed_rows is not None:
        return scanning.assumed_data(job, request.assumed_rows)
    return tokens.counted(job, scan_judging(job, scanning.scan_data(job)), now)


def _machine(now: datetime, collect_minutes: int) -> tuple[Survey, Estimator]:
    """What this machine has to train on, and an estimator that knows what its runs measured."""
    local = survey(now.date().isoformat())
    try:
        found = measurements(paths.ledger_file())
    except OutsideFailed as error:
        problem = f"{error}; estimates are not calibrated"
        plain = partial(estimate, collect_minutes=collect_minutes)
        return Survey(local.offers, (*local.problems, problem)), plain
    known = calibrate(found)
    return local, partial(estimate, calibration=known, collect_minutes=collect_minutes)


def plan_rung(
    first: Plan, rung: Rung, budget: Budget, run_id: str, *, least_bytes: int = 0, now: datetime
) -> Plan:
    """The first plan's job on another rung, at today's prices, on devices of so much memory. One
    that cannot go on from what the job resumes from fits nowhere.

    Raises BadInput where it is no longer the same data, or the job cannot be changed so.
    """
    job = job_of(first.job, rung)
    changes = tuple(
        Setting(
            key=key, value=str(value), source="escalation", instead_of=f"rung 1 of {first.run_id}"
        )
        for key, value in rung.set.items()
    )
    request = recipes.Request(
        job=job, budget=budget, recipe=first.recipe, settings=(*first.settings, *changes)
    )
    made = _planning(request, run_id, now, least_bytes)(job, budget)
    unchanged.require_same_files(first, made, rung)
    try:
        continuing.require_continuable(made)
    except BadInput as error:
        return _nowhere(made, " ".join(str(error).split()))
    return made


def _nowhere(made: Plan, why: str) -> Plan:
    rejected = (msgspec.structs.replace(c, verdict="rejected", reason=why) for c in made.candidates)
    return msgspec.structs.replace(made, candidates=tuple(rejected))


def _planning(
    request: recipes.Request, run_id: str | None, now: datetime, least_bytes: int = 0
) -> Replan:
    """A planner for this request's model and data on today's offers, for any job and budget."""
    data = _scanned(request, now)
    local, estimator = _machine(now, request.budget.collect_minutes)
    job = request.job
    shape, source = shapes.shape_of(job.model)
    model = ModelFacts(
        id=job.model.id,
        architecture=shape.architecture,
        parameters=shape.parameters,
        named_parameters=named_parameters(job.model.id),
        source=source,
    )
    found = (*local.offers, *_catalog(now.date().isoformat()).offers)
    found = tuple(offer for offer in found if offer.device.total_bytes >= least_bytes)
    if request.exact is not None:
        exact = request.exact
        found = tuple(
            o for o in found if (o.device.kind, o.count) == (exact.device, exact.processes)
        )
    run_id = run_id or _new_run_id(job.name, now)

    def planned(job: JobSpec, budget: Budget, among: Sequence[Offer] = ()) -> Plan:
        return planner.plan(
            job,
            budget,
            shape,
            model,
            data,
            among or found,
            run_id=run_id,
            created_at=stamp(now),
            recipe=request.recipe,
            settings=request.settings,
            warnings=(*_warnings(model), *data.warnings, *local.problems),
            estimator=estimator,
            own_python=PYTHON_VARIABLE in os.environ,
        )

    return planned


def _with_hub_data(request: recipes.Request) -> recipes.Request:
    """A data set of the Hub becomes files of this machine."""
    data, settings = hub_data.localised(request.job.data)
    if not settings:
        return request
    return msgspec.structs.replace(
        request,
        job=msgspec.structs.replace(request.job, data=data),
        settings=(*request.settings, *settings),
    )


def _new_run_id(name: str, now: datetime) -> str:
    return f"{name}-{now:%m%d-%H%M%S}-{os.urandom(2).hex()}"


def _warnings(model: ModelFacts) -> tuple[str, ...]:
    if not name_disagrees(model.named_parameters, model.parameters):
        return ()
    claimed = model.named_parameters or 0.0
    return (
        f"MODEL SIZE: the name of {model.id} says {claimed / 1e9:g} B parameters, its "
        f"{model.source} has {model.parameters / 1e9:.2f} B; planned with the real "
        f"{model.parameters / 1e9:.2f} B",
    )


def _require_same(saved: ResolvedSpec, made: Plan) -> None:
    """A saved spec is rerun exactly or not at all."""
    chosen = made.chosen
    if chosen is None or chosen.spec is None:
        return
    now = msgspec.structs.replace(
        chosen.spec, run_id=saved.run_id, deadline=saved.deadline, provenance=saved.provenance
    )
    if now != saved:
        changed = [f for f in saved.__struct_fields__ if getattr(now, f) != getattr(saved, f)]
        raise BadInput(
            f"{made.recipe} cannot be rerun exactly on {chosen.offer.instance}: "
            f"{', '.join(changed)} would change; start from its YAML recipe instead"
        )
