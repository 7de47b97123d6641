"""Pure: job, budget, model, data and offers → a Plan, with a reason for every candidate.

Offers of one kind differ by their price alone, and the cheapest stands for them. Each kind is
judged under every strategy the job allows, with the micro-batch and checkpointing that are the
fastest there (variants.py). What holds all limits is ranked by the
expected cost of a finished job, then by its hours; caps are compared with the worst case.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter

import msgspec
from msgspec import Struct

from jobs.spec import JobSpec, ResolvedSpec, Strategy
from launcher.catalog.merge import age_days
from launcher.catalog.priced import TERMS
from launcher.catalog.providers import CLUSTERS, LOCAL, NOBODY, display_name
from launcher.errors import BadInput
from launcher.estimate import estimate as real_estimate
from launcher.estimate.shapes import ModelShape
from launcher.planning.costs import expected_and_worst, with_electricity, with_image
from launcher.planning.refusals import (
    NO_DEVICE,
    NO_MEMORY,
    NOT_ASKED_FOR,
    OVER_HOURS,
    Refusal,
    blocked,
    over_limit,
    usd,
)
from launcher.planning.resolve import model_refusal, resolve, strategies
from launcher.planning.selection import asked_for, left_out, require_known
from launcher.planning.variants import Settled, Variant, settle
from launcher.types import (
    Budget,
    Candidate,
    DataFacts,
    Device,
    Estimate,
    ModelFacts,
    Offer,
    Plan,
    Setting,
)
from results.receipt import dollars, duration

Estimator = Callable[[ResolvedSpec, ModelShape, DataFacts, Offer], Estimate]

# Prices moved by 29 % in three months (RunPod A100, 2026): beyond a month the plan says so.
STALE_DAYS = 30


class _Kind(Struct):
    """Offers that a job cannot tell apart but by their price: one provider's, one card, one count.

    SkyPilot itself fails over among them. A cluster's partitions are apart: each has its own price,
    which SkyPilot holds no limit against, so that it is told which to take.
    """

    cheapest: Offer
    offers: int = 1


class _Judged(Struct, frozen=True):
    candidate: Candidate
    rank: int  # of the refusal; -1: none


def plan(
    job: JobSpec,
    budget: Budget,
    shape: ModelShape,
    model: ModelFacts,
    data: DataFacts,
    offers: Iterable[Offer],
    *,
    run_id: str,
    created_at: str,
    recipe: str,
    settings: tuple[Setting, ...],
    warnings: tuple[str, ...],
    today: str | None = None,
    estimator: Estimator = real_estimate,
    own_python: bool = False,
) -> Plan:
    """The plan: chosen candidate first, then the possible by cost, then the rejected in groups.

    `today` is an ISO date, by default `created_at`'s. No deadline is set here. `own_python`: a
    local job's interpreter is the user's, see `resolve`.
    Raises `BadInput` for a GPU or provider that nobody knows.
    """
    offers = with_image(with_electricity(offers, budget), budget)
    on, card = (_asked_by(key, recipe, settings) for key in ("budget.providers", "budget.gpu"))
    require_known(offers, budget.providers, budget.gpu, on=on, card=card)
    today = today or created_at[:10]
    known: dict[tuple[Device, int, Strategy], Settled] = {}

    def settled(offer: Offer, strategy: Strategy) -> Settled | str:
        """How the job would run there, or why it cannot be expressed."""
        refusal = model_refusal(strategy, shape)
        spec = refusal or resolve(job, strategy, offer, run_id, own_python)
        if isinstance(spec, str):
            return spec

        def estimated(one: ResolvedSpec) -> Estimate:
            return estimator(one, shape, data, _as_here(offer))

        card = (offer.device, offer.count, strategy)
        if card in known:  # the same one elsewhere: what differs lies around the job
            spec = known[card].taken.spec
            return Settled(Variant(spec, estimated(spec)), known[card].least_bytes)
        spec = _bound_to(spec, data)
        known[card] = settle(spec, job, offer.device.usable_bytes, estimated)
        return known[card]

    # This machine is shown whatever is asked for: its figures are what renting is held against.
    kinds = [
        kind
        for kind in _kinds(offers)
        if kind.cheapest.provider == LOCAL or asked_for(kind.cheapest, budget)
    ]
    unasked = left_out(offers, budget)
    judged = [
        _judge(kind, strategy, settled(kind.cheapest, strategy), budget, today, unasked)
        for kind in kinds
        for strategy in strategies(job)
    ]
    candidates = _ranked(judged, budget)
    return Plan(
        run_id=run_id,
        created_at=created_at,
        recipe=recipe,
        job=job,
        budget=budget,
        model=model,
        data=data,
        candidates=candidates,
        left_out=len(offers) - sum(kind.offers for kind in kinds),
        settings=settings,
        warnings=(*warnings, *_warnings(candidates, budget, today)),
    )


def _as_here(offer: Offer) -> Offer:
    """What nobody offers is estimated as if it stood here: without the hours of renting it."""
    if offer.provider != NOBODY:
        return offer
    return msgspec.structs.replace(offer, provider=LOCAL)


def _asked_by(key: str, recipe: str, settings: Iterable[Setting]) -> str:
    """Who set the key, as an error begins: the recipe, unless a flag did."""
    flag = next((one.source for one in settings if one.key == key), "")
    if not flag.startswith("--"):
        return f"{recipe}: {key}"
    return f"{flag}:" if "=" in flag else flag


def _kinds(offers: Iterable[Offer]) -> Iterable[_Kind]:
    found: dict[tuple[object, ...], _Kind] = {}
    for offer in offers:
        key = _kind_of(offer)
        if offer.provider in CLUSTERS:
            key = (*key, offer.instance)
        kind = found.get(key)
        if kind is None:
            found[key] = _Kind(offer)
            continue
        kind.offers += 1
        if _by_price(offer) < _by_price(kind.cheapest):
            kind.cheapest = offer
    return found.values()


# All that a job, its bill or its worst case can tell.
_kind_of = attrgetter(
    "provider",
    "device.name",
    "device.usable_bytes",
    "device.cores",
    "count",
    "spot",
    "executor",
    *TERMS,
    "interruptions_per_hour",
    "enabled",
    "as_of",  # an old price may have risen, a fresh one has not
)


def _by_price(offer: Offer) -> tuple[int, str, str]:
    return offer.microusd_per_hour, offer.instance, offer.region


def _bound_to(spec: ResolvedSpec, data: DataFacts) -> ResolvedSpec:
    """The spec names the very data that was planned with: a rerun is exact or refused."""
    return msgspec.structs.replace(
        spec,
        train_sha256=data.sha256,
        validation_sha256=data.validation_sha256,
        test_sha256=data.test_sha256,
        golden_sha256=data.golden_sha256,
        schema_sha256=data.schema_sha256,
        metrics_sha256=data.metrics_sha256,
        replay_sha256=data.replay_sha256,
    )


def _judge(
    kind: _Kind,
    strategy: Strategy,
    settled: Settled | str,
    budget: Budget,
    today: str,
    unasked: str,
) -> _Judged:
    """`unasked`: why an offer is left out that --on or --gpu leaves out."""
    offer = kind.cheapest
    if isinstance(settled, str):
        rank = NO_DEVICE if asked_for(offer, budget) else NOT_ASKED_FOR
        return _Judged(_inexpressible(kind, f"{strategy}: {settled}"), rank)
    estimate = settled.taken.estimate
    try:
        expected, worst = expected_and_worst(offer, estimate, today, to_bucket=budget.to_bucket)
    except ValueError as error:
        raise BadInput(f"{offer.provider} {offer.instance}: {error}") from None
    refusal = blocked(offer, estimate, budget) or over_limit(offer, estimate, worst, budget)
    if not asked_for(offer, budget):
        refusal = Refusal(NOT_ASKED_FOR, unasked)
    candidate = Candidate(
        offer=offer,
        dearer=kind.offers - 1,
        spec=settled.taken.spec,
        estimate=estimate,
        least_bytes=settled.least_bytes,
        expected_microusd=expected,
        worst_microusd=worst,
        verdict="rejected" if refusal is not None else "possible",
        reason=refusal.reason if refusal is not None else "",
    )
    return _Judged(candidate, refusal.rank if refusal is not None else -1)


def _inexpressible(kind: _Kind, why: str) -> Candidate:
    """A device on which the strategy cannot be expressed at all."""
    return Candidate(
        offer=kind.cheapest,
        dearer=kind.offers - 1,
        spec=None,
        estimate=None,
        expected_microusd=0,
        worst_microusd=0,
        verdict="rejected",
        reason=why,
    )


# --- ranking --------------------------------------------------------------------------------


def _ranked(judged: list[_Judged], budget: Budget) -> tuple[Candidate, ...]:
    fitting = sorted((j.candidate for j in judged if j.rank < 0), key=_by_cost)
    eligible = [c for c in fitting if budget.max_cost_microusd is not None or not c.worst_microusd]
    chosen = eligible[0] if eligible else None
    first = []
    if chosen is not None:
        first.append(_with(chosen, "chosen", _why_chosen(chosen, eligible, budget)))
    first += [
        _with(c, "possible", _why_possible(c, chosen, budget)) for c in fitting if c is not chosen
    ]
    rejected = [j for j in judged if j.rank >= 0]
    rejected.sort(key=lambda j: (j.rank, _missed_by(j)))  # stable
    return (*first, *(j.candidate for j in rejected))


def _missed_by(judged: _Judged) -> float:
    """How far from being possible, within one kind of refusal."""
    candidate = judged.candidate
    if candidate.estimate is None:
        return 0.0
    if judged.rank == NO_MEMORY:
        return candidate.estimate.memory_upper_bytes - candidate.offer.device.usable_bytes
    if judged.rank == OVER_HOURS:
        return candidate.estimate.hours_high
    return candidate.worst_microusd


def _by_cost(candidate: Candidate) -> tuple[int, float, int, str, str]:
    assert candidate.estimate is not None  # only what was estimated gets here
    offer = candidate.offer
    return (
        candidate.expected_microusd,
        candidate.estimate.hours_expected,
        candidate.worst_microusd,
        offer.provider,
        offer.instance,
    )


def _with(candidate: Candidate, verdict: str, reason: str) -> Candidate:
    return msgspec.structs.replace(candidate, verdict=verdict, reason=reason)


def _why_chosen(chosen: Candidate, eligible: list[Candidate], budget: Budget) -> str:
    others = f"cheapest finished job of {len(eligible)} that hold every limit"
    held = others if len(eligible) > 1 else "the only one that holds every limit"
    if not chosen.worst_microusd:
        assert chosen.estimate is not None
        return f"costs $0 and ends within {duration(chosen.estimate.hours_high)}; {held}"
    cap = usd(budget.max_cost_microusd or 0)
    return f"worst {usd(chosen.worst_microusd)} within the cap of {cap}; {held}"


def _why_possible(candidate: Candidate, chosen: Candidate | None, budget: Budget) -> str:
    if budget.max_cost_microusd is None and candidate.worst_microusd:
        return f"no --max-cost given; worst {usd(candidate.worst_microusd)}"
    assert chosen is not None
    assert chosen.estimate is not None
    assert candidate.estimate is not None
    dearer = candidate.expected_microusd - chosen.expected_microusd
    if dearer:
        return f"{dollars(dearer)} more than the chosen"
    slower = candidate.estimate.hours_expected - chosen.estimate.hours_expected
    return f"the same cost, {duration(slower)} slower than the chosen"


def _warnings(candidates: tuple[Candidate, ...], budget: Budget, today: str) -> tuple[str, ...]:
    """What is not known, or old, of the chosen offer that costs money."""
    if not candidates or candidates[0].verdict != "chosen":
        return ()
    offer = candidates[0].offer
    if offer.provider == LOCAL and budget.image:
        own = "this one's job runs in the environment kept here"
        return (f"{budget.image} is for machines that are rented: {own}",)
    if not offer.microusd_per_hour:
        return ()
    days = age_days(offer, today)
    where = display_name(offer.provider)
    found = []
    if days > STALE_DAYS:
        what = f"the price of {where}'s {offer.device.name}"
        found.append(f"{what} is of {offer.as_of}, {days} days old; check it before paying")
    if offer.enabled is None:
        asked = "`launch offers --refresh` asks SkyPilot"
        found.append(f"whether you may rent from {where} is not known; {asked}")
    return tuple(found)
