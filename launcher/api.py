"""The library's face: plan, checks, submit, follow, status, logs, cancel, collect, publish, canary,
adopt.

A run is a plan, then a submit: `plan` touches nothing, and what it returns is exactly what
`submit` acts on.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import paths, recipes
from launcher.catalog.local import survey
from launcher.catalog.priced import Listing
from launcher.catalog.providers import LOCAL
from launcher.checking.taking import ready
from launcher.errors import BadInput
from launcher.ledger import Ledger
from launcher.planning.canary import (
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
from launcher.plans import compare, estimated, listed, new_run_id, plan, plan_rung, require_fit
from launcher.preflight import checks, require_licence, require_publishable
from launcher.running import budgets, climbs, portfolios
from launcher.running.adopting import adopt
from launcher.running.budgets import Project, project
from launcher.running.clock import spent, utc_now
from launcher.running.collecting import collect
from launcher.running.reconciling import ledger
from launcher.running.resuming import resume, resumption
from launcher.running.runs import DEFAULT_STORE, cancel, require_choice, submit
from launcher.running.starting import printed_task
from launcher.running.watching import exists, follow, logs, minutes_unfetched, runs, status
from launcher.types import MICROUSD, MOST_USD, Account, Budget, Plan

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
    "estimated",
    "exists",
    "follow",
    "guard",
    "logs",
    "minutes_unfetched",
    "offers",
    "plan",
    "plan_rung",
    "printed_task",
    "project",
    "project_left",
    "prove",
    "publish",
    "ready",
    "require_choice",
    "require_fit",
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
    """Hold every run's cap from here, and go on with climbs and portfolios whose launcher is gone:
    what was found and done, in lines; with `watch` until nothing may cost money any more."""
    from launcher import guard

    book = ledger()
    if watch:
        yield from guard.watch(book, _carried_on)
    else:
        yield from guard.round_of(book)
        yield from _carried_on(book)


def _carried_on(book: Ledger) -> Iterator[str]:
    yield from climbs.carried_on(book)
    yield from portfolios.carried_on(book)


def project_left(asked: Project) -> int:
    """Micro-dollars that the project has for another run. Raises BadInput where it has no cap."""
    return budgets.project_left(ledger(), asked)


def account(name: str) -> Account:
    """A project's budget as the ledger has it. Raises BadInput for one without a budget."""
    return budgets.account(ledger(), name)


def publish(run: str, repository: str, flags: "PublishFlags | None" = None) -> "Published":
    """Publish a run, by its id or folder, as ORG/NAME on the Hub. Raises LaunchError."""
    from launcher.running import publishing

    return publishing.publish(run, repository, flags or publishing.PublishFlags())


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
    listing = listed(today)
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
        max_cost=MOST_USD,  # the parts' shares are held against the cap, not the sample job's worst
        max_hours=MAX_HOURS,
        sets=(f"budget.collect_minutes={COLLECT_MINUTES}",),
    )
    cap = round(max_cost * MICROUSD)
    run_id = new_run_id("canary", now)
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
