"""The price at the moment an attempt is paid for: read again by SkyPilot, and held against what is
left of the cap."""

import threading
import time

import msgspec

from launcher.catalog import clusters, merge, refresh
from launcher.catalog.priced import Listing
from launcher.catalog.providers import CLUSTERS, TO_ENABLE, display_name
from launcher.errors import OutsideFailed
from launcher.planning.costs import expected_and_worst
from launcher.planning.refusals import over_limit, usd
from launcher.types import MICROUSD, Budget, Candidate, Offer

# Importing SkyPilot takes 5 s here (refresh.py), and took over 60 at a load of 20 on two cores; one
# provider's check and one catalog of some megabytes come on top. Assumption.
SECONDS = 180.0


class Asking:
    """One question to SkyPilot about one provider, for all who want its answer at one moment.

    The provider's catalog is fetched anew where it is enabled. `today` is an ISO date, UTC: a
    price from before it is not fresh. After `until` (of time.monotonic) nobody is asked.
    """

    def __init__(self, provider: str, today: str, until: float | None = None) -> None:
        self.provider, self.today = provider, today
        self._until = time.monotonic() + SECONDS if until is None else until
        self._turn = threading.Lock()
        self._answer: refresh.Answer | OutsideFailed | None = None

    def answer(self) -> refresh.Answer:
        """Asked by the first who comes, and waited for by the others. Raises OutsideFailed."""
        with self._turn:
            if self._answer is None:
                try:
                    python = refresh.skypilot_python()
                    self._answer = refresh.ask(python, (self.provider,), self._seconds_left())
                except OutsideFailed as error:
                    self._answer = error
        if isinstance(self._answer, OutsideFailed):
            raise self._answer
        return self._answer

    @property
    def nobody(self) -> bool:
        """Whether there is no SkyPilot here to ask, about this provider or another."""
        try:
            refresh.skypilot_python()
        except OutsideFailed:
            return True
        return False

    def _seconds_left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            where = display_name(self.provider)
            raise OutsideFailed(f"SkyPilot was not asked about {where}: {SECONDS:g} s are over")
        return left


class Askings:
    """A question for each provider, as one goes down a plan: SECONDS for all of them."""

    def __init__(self, today: str) -> None:
        self.today = today
        self._until = time.monotonic() + SECONDS
        self._known: dict[str, Asking] = {}

    def about(self, provider: str) -> Asking:
        if provider not in self._known:
            self._known[provider] = Asking(provider, self.today, self._until)
        return self._known[provider]


def fresh_price(candidate: Candidate, asking: Asking) -> Offer:
    """The candidate's machine in the price list as it is now.

    A price that its owner set (Slurm, Kubernetes) comes with SkyPilot's answer.
    Raises OutsideFailed where it cannot be had.
    """
    planned = candidate.offer
    where = f"{display_name(planned.provider)}'s {planned.instance}"
    answer = asking.answer()
    if planned.provider not in answer.enabled:
        raise OutsideFailed(f"{where}: {not_enabled(answer, planned.provider)}")
    listed = _listed(planned, answer, asking.today)
    found = same_machine(planned, listed.offers)
    if found is None:
        why = _left_out(planned, listed)
        raise OutsideFailed(f"{where} is not in SkyPilot's list any more{why}")
    if found.as_of < asking.today:
        why = answer.unread.get(planned.provider, "SkyPilot has none newer")
        raise OutsideFailed(
            f"the price of {where} is of {found.as_of} and could not be read anew: {why}\n"
            "`launch offers --refresh` reads all prices; is the network there?"
        )
    return found


def _listed(planned: Offer, answer: refresh.Answer, today: str) -> Listing:
    """What is offered now: a cluster's prices are in the answer itself."""
    if planned.provider not in CLUSTERS:
        return merge.offers(today)
    asked = clusters.Asked(asked_at=today, skypilot=answer.version, shares=answer.shares)
    return clusters.offered(asked)


def _left_out(planned: Offer, listed: Listing) -> str:
    """Why a cluster's share is no offer now, where its list says so: its nodes may be drained."""
    share = (planned.provider, planned.instance, planned.accelerator or "CPU")
    found = (d.reason for d in listed.dropped if (d.provider, d.instance, d.gpu) == share)
    reason = next(found, "") if planned.provider in CLUSTERS else ""
    return reason and f": {reason}"


def not_enabled(answer: refresh.Answer, provider: str) -> str:
    why = answer.disabled.get(provider, "SkyPilot does not say why")
    return f"SkyPilot may not rent there: {why}; {TO_ENABLE.get(provider, 'see sky check')}"


def same_machine(planned: Offer, offers: tuple[Offer, ...]) -> Offer | None:
    """The planned machine among these; where its region stands for several, the cheapest of them:
    a task's `max_hourly_cost` keeps SkyPilot out of the dearer ones."""
    alike = [offer for offer in offers if _machine(offer) == _machine(planned)]
    exact = [offer for offer in alike if offer.region == planned.region]
    there = exact or [
        offer
        for offer in alike
        if merge.covers(planned.region, offer.region) or merge.covers(offer.region, planned.region)
    ]
    return min(there, key=lambda offer: offer.microusd_per_hour, default=None)


def _machine(offer: Offer) -> tuple[str, str, str, int, bool]:
    return offer.provider, offer.instance, offer.device.name, offer.count, offer.spot


def still_holds(candidate: Candidate, now: Offer, budget: Budget, today: str) -> Candidate | str:
    """The candidate at the price of `now`, or why it may not be started so: its worst case is over
    the budget's cap. The rate is the only thing that changes. Pure."""
    before, estimate = candidate.offer, candidate.estimate
    assert estimate is not None, "only an estimated candidate has a price"
    offer = msgspec.structs.replace(
        before, microusd_per_hour=now.microusd_per_hour, as_of=now.as_of, source=now.source
    )
    day = max(now.as_of, today)
    expected, worst = expected_and_worst(offer, estimate, day, to_bucket=budget.to_bucket)
    moved = f"{_hourly(before)} an hour on {before.as_of}, {_hourly(offer)} now"
    refusal = over_limit(offer, estimate, worst, budget)
    if refusal is not None:
        same = now.microusd_per_hour == before.microusd_per_hour
        at = f"at {_hourly(offer)} an hour" if same else f"the price has changed ({moved})"
        return f"{at}: {refusal.reason}"
    reason = candidate.reason
    if now.microusd_per_hour != before.microusd_per_hour:
        cap = usd(budget.max_cost_microusd or 0)
        reason = f"worst {usd(worst)} within the cap of {cap}; {moved}"
    return msgspec.structs.replace(
        candidate, offer=offer, expected_microusd=expected, worst_microusd=worst, reason=reason
    )


def _hourly(offer: Offer) -> str:
    return f"${offer.microusd_per_hour / MICROUSD:.3f}"
