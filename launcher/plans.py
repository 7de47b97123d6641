"""Plans made: of a recipe and its flags, and later of the same job on another rung."""

import os
import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec

from jobs.spec import JobSpec, ResolvedSpec, Strategy, name_disagrees, named_parameters
from launcher import paths, planner, recipes
from launcher.catalog import enabled, merge
from launcher.catalog.local import Survey, survey
from launcher.catalog.priced import Listing
from launcher.errors import BadInput, NothingFits, OutsideFailed, one_line
from launcher.estimate import estimate, shapes
from launcher.estimate.calibration import calibrate
from launcher.executors.environment import PYTHON_VARIABLE
from launcher.inputs import (
    continuing,
    hub_data,
    lengths,
    reach,
    registered,
    scanning,
    tokens,
    unchanged,
)
from launcher.inputs.judging import scan_judging
from launcher.ladder import job_of, ladder
from launcher.ledger import measurements
from launcher.paths import is_remote
from launcher.planner import Estimator
from launcher.planning.refusals import answer_of, fits
from launcher.planning.selection import nobody_has
from launcher.planning.unpriced import unpriced
from launcher.planning.ways_out import Replan, ways_out
from launcher.running.runs import DEFAULT_STORE
from launcher.times import stamp
from launcher.types import Budget, DataFacts, ModelFacts, Offer, Plan, Rung, Setting, lowest

# What `compare` lays side by side.
COMPARED: tuple[Strategy, ...] = ("qlora", "lora", "full")

RUN_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"  # names folders: no dots, no slashes


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
    if run_id is not None:
        require_run_id(run_id)
    request = _request(recipe, flags, now)
    planned = _planning(request, run_id, now)
    cap = lowest(request.budget.max_cost_microusd, at_most_microusd)
    budget = msgspec.structs.replace(
        request.budget, to_bucket=is_remote(store), max_cost_microusd=cap
    )
    made = planned(request.job, budget)
    if advise:
        fixed = request.exact is not None
        made = msgspec.structs.replace(
            made,
            ways_out=ways_out(made, planned, fixed),
            ladder=None if fixed else ladder(made, request.escalation, planned),
        )
    _require_rerun(request, made)
    return made


def _require_rerun(request: recipes.Request, made: Plan) -> None:
    """What is gone on from, or rerun exactly, can be."""
    continuing.require_continuable(made)
    if request.exact is not None:
        _require_same(request.exact, made)


def require_run_id(run_id: str) -> None:
    if not re.fullmatch(RUN_ID, run_id):
        raise BadInput(f"--run-id {run_id}: expected letters, digits, - and _, 64 at most")


def estimated(recipe: str | None, flags: recipes.Flags, *, now: datetime) -> Plan:
    """A plan to be read, not submitted: a card that --gpu names and nobody offers is in it, turned
    down, with its memory and hours. Raises as `plan` does."""
    request = _request(recipe, flags, now)
    made = _planning(request, None, now, with_unpriced=True)(request.job, request.budget)
    _require_rerun(request, made)
    return made


def compare(recipe: str | None, flags: recipes.Flags, *, now: datetime) -> tuple[Plan, ...]:
    """The same job `estimated` under each strategy, QLoRA first."""
    request = _request(recipe, flags, now)
    planned = _planning(request, None, now, with_unpriced=True)
    jobs = [msgspec.structs.replace(request.job, strategy=strategy) for strategy in COMPARED]
    return tuple(planned(job, request.budget) for job in jobs)


def require_fit(plans: Sequence[Plan]) -> None:
    """Raises NothingFits where none of these has what was asked for and holds every limit."""
    answers = [(answer_of(made), made.budget) for made in plans]
    if any(fits(answer, budget) for answer, budget in answers if answer is not None):
        return
    reasons = [answer.reason if answer else nobody_has(budget) for answer, budget in answers]
    raise NothingFits(f"nothing fits: {reasons[0]}")


def _request(recipe: str | None, flags: recipes.Flags, now: datetime) -> recipes.Request:
    # People name files by their own calendar, not by UTC's.
    request = recipes.load(recipe, flags, now.astimezone().date().isoformat())
    request = _with_hub_data(request)
    return msgspec.structs.replace(
        request, job=continuing.settled(request.job), budget=_with_image_size(request.budget)
    )


def _with_image_size(budget: Budget) -> Budget:
    """As its registry said when it was last asked."""
    image = registered.known(budget.image) if budget.image else None
    if image is None:
        return budget
    return msgspec.structs.replace(budget, image_bytes=image.compressed_bytes)


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
    changed = tuple(rung.set)
    return _once_more(
        first, job, budget, run_id, now, changes=changes, least_bytes=least_bytes, changed=changed
    )


def plan_again(
    first: Plan, budget: Budget, run_id: str, *, among: Sequence[Offer] = (), now: datetime
) -> Plan:
    """The plan's own job at today's prices, or `among` these offers, with the ladder that it had.
    Raises as `plan_rung`, and BadInput where a saved spec cannot be rerun exactly any more."""
    chosen = first.chosen if first.recipe.endswith(".json") else None
    exact = chosen.spec if chosen is not None else None
    made = _once_more(first, first.job, budget, run_id, now, among=among, exact=exact)
    if exact is not None:
        _require_same(exact, made)
    return msgspec.structs.replace(made, ladder=first.ladder)


def _once_more(
    first: Plan,
    job: JobSpec,
    budget: Budget,
    run_id: str,
    now: datetime,
    *,
    changes: tuple[Setting, ...] = (),
    least_bytes: int = 0,
    changed: tuple[str, ...] = (),
    among: Sequence[Offer] = (),
    exact: ResolvedSpec | None = None,
) -> Plan:
    request = recipes.Request(
        job=job,
        budget=budget,
        recipe=first.recipe,
        settings=(*first.settings, *changes),
        exact=exact,
    )
    made = _planning(request, run_id, now, least_bytes)(job, budget, among)
    unchanged.require_same_files(first, made, changed)
    try:
        continuing.require_continuable(made)
    except BadInput as error:
        return _nowhere(made, one_line(error))
    return made


def _nowhere(made: Plan, why: str) -> Plan:
    rejected = (msgspec.structs.replace(c, verdict="rejected", reason=why) for c in made.candidates)
    return msgspec.structs.replace(made, candidates=tuple(rejected))


def _planning(
    request: recipes.Request,
    run_id: str | None,
    now: datetime,
    least_bytes: int = 0,
    *,
    with_unpriced: bool = False,
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
    found = (*local.offers, *listed(now.date().isoformat()).offers)
    found = tuple(offer for offer in found if offer.device.total_bytes >= least_bytes)
    if request.exact is not None:
        exact = request.exact
        found = tuple(
            o for o in found if (o.device.kind, o.count) == (exact.device, exact.processes)
        )
    run_id = run_id or new_run_id(job.name, now)

    def planned(job: JobSpec, budget: Budget, among: Sequence[Offer] = ()) -> Plan:
        more = unpriced(found, budget, stamp(now)[:10]) if with_unpriced else ()
        of_rows = (*data.warnings, *lengths.warnings_of(job, data))
        of_model = (*_warnings(model), *reach.warnings_of(job, shape))
        return planner.plan(
            job,
            budget,
            shape,
            model,
            data,
            among or (*found, *more),
            run_id=run_id,
            created_at=stamp(now),
            recipe=request.recipe,
            settings=request.settings,
            warnings=(*of_model, *of_rows, *local.problems),
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


def new_run_id(name: str, now: datetime) -> str:
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


def listed(today: str) -> Listing:
    """Every price list, with what is known of where SkyPilot may rent."""
    listing = merge.offers(today)
    return Listing(enabled.marked(listing.offers, enabled.last_check()), listing.dropped)
