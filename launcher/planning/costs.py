"""Pure: time on an offer → integer micro-dollars, everything its provider bills.

A plan counts and a run is metered by the same `bill_microusd`: ceil(rate × billed seconds / 3600),
the billed seconds rounded up to the provider's granularity and minimum; disk is billed as long as
the machine, egress once.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil

import msgspec

from launcher.catalog.merge import age_days
from launcher.catalog.providers import LOCAL
from launcher.estimate.renting import teardown
from launcher.types import GIB, MIB, Budget, Candidate, Estimate, Offer, Terms
from results.receipt import spend_microusd

# Root disk of a rented machine: SkyPilot's images and drivers need some 50 GB; the default of
# many of its examples. Assumption.
DISK_FLOOR_GIB = 100
# Prices move: RunPod's secure A100 rose by 29 % in three months of 2026; taken as evenly spread.
# No more than half as much again is assumed of any age: an assumption.
DRIFT_A_DAY = 0.29 / 90
DRIFT_AT_MOST = 0.5
# Log, metrics, samples and answers beside the adapter. Assumption.
PAPERS_BYTES = 64 * MIB
ADAPTER_BYTES_PER_PARAMETER = 4  # fp32 at most
CHECKPOINTS = "checkpoints"  # the disk term of those that are kept (estimate/disk.py)


def disk_gib(estimate: Estimate) -> int:
    """The disk to rent, GiB."""
    return max(DISK_FLOOR_GIB, ceil(estimate.disk_bytes / GIB))


def egress_bytes(estimate: Estimate, *, to_bucket: bool = False, finished: bool = True) -> int:
    """What leaves the machine: the trained parameters and the run's papers; to a bucket every
    checkpoint as well; without one those that are kept, of a job that did not finish. Bytes."""
    home = estimate.parameters_trainable * ADAPTER_BYTES_PER_PARAMETER + PAPERS_BYTES
    if to_bucket:
        return home + estimate.mirrored_bytes
    kept = sum(term.bytes for term in estimate.disk if term.name == CHECKPOINTS)
    return home if finished else home + kept


def terms(
    offer: Offer, estimate: Estimate, *, to_bucket: bool = False, finished: bool = True
) -> Terms:
    """What the offer's provider bills for a machine that does the estimate's job."""
    leaves = egress_bytes(estimate, to_bucket=to_bucket, finished=finished)
    return Terms(
        microusd_per_hour=hourly_microusd(offer, estimate),
        billing_seconds=offer.billing_seconds,
        billing_minimum_seconds=offer.billing_minimum_seconds,
        egress_microusd=-(-offer.microusd_per_gib_egress * leaves // GIB),
    )


def billed_seconds(terms: Terms, seconds: float) -> int:
    """Seconds on the bill for so many of use: rounded up, then at least the minimum."""
    units = ceil(round(seconds, 3) / terms.billing_seconds)
    return max(terms.billing_minimum_seconds, units * terms.billing_seconds)


def bill_microusd(terms: Terms, seconds: float) -> int:
    """Micro-dollars for a machine held so long; nothing for one that never was."""
    if seconds <= 0:
        return 0
    rented = spend_microusd(terms.microusd_per_hour, billed_seconds(terms, seconds))
    return rented + terms.egress_microusd


def cost_microusd(
    offer: Offer, estimate: Estimate, hours: float, *, to_bucket: bool = False
) -> int:
    """Micro-dollars for one finished job that keeps the offer's machine for `hours`."""
    return bill_microusd(terms(offer, estimate, to_bucket=to_bucket), hours * 3600)


def with_electricity(offers: Iterable[Offer], budget: Budget) -> tuple[Offer, ...]:
    """This machine's offers at what its owner says an hour of it costs; others as they are."""
    rate = budget.local_microusd_per_hour
    if not rate:
        return tuple(offers)
    return tuple(
        msgspec.structs.replace(o, microusd_per_hour=rate) if o.provider == LOCAL else o
        for o in offers
    )


def with_image(offers: Iterable[Offer], budget: Budget) -> tuple[Offer, ...]:
    """The offers with the image that was asked for, where their provider runs one."""
    if not budget.image:
        return tuple(offers)
    return tuple(
        msgspec.structs.replace(o, image=budget.image, image_bytes=budget.image_bytes)
        if "containers" in o.capabilities
        else o
        for o in offers
    )


def expected_and_worst(
    offer: Offer, estimate: Estimate, today: str, *, to_bucket: bool = False
) -> tuple[int, int]:
    """Micro-dollars for the job: finished as planned; and at its longest, stopped then, at the
    price that the offer may have come to by `today`. Raises ValueError where its date is none."""
    expected = cost_microusd(offer, estimate, estimate.hours_expected, to_bucket=to_bucket)
    at_worst = terms(aged(offer, today), estimate, to_bucket=to_bucket, finished=False)
    worst = bill_microusd(at_worst, estimate.hours_high * 3600)
    return expected, max(expected, worst)


def aged(offer: Offer, today: str) -> Offer:
    """The offer at the price that it may have come to since its date, for the worst case.

    What one's own machine costs is no list price and does not age.
    Raises ValueError where a date is none.
    """
    if offer.provider == LOCAL or not offer.microusd_per_hour:
        return offer
    rise = min(DRIFT_A_DAY * age_days(offer, today), DRIFT_AT_MOST)
    price = ceil(offer.microusd_per_hour * (1 + rise))
    return msgspec.structs.replace(offer, microusd_per_hour=price)


def affordable_hours(candidate: Candidate, budget: Budget, today: str) -> float:
    """Hours that the budget allows on the candidate's offer, all that it bills counted.

    At the price that it may have come to by `today`, as the worst case is; whole billed units, and
    none where the provider's minimum is beyond it.
    """
    cap, estimate = budget.max_cost_microusd, candidate.estimate
    assert estimate is not None, "only an estimated candidate is priced"
    offer = aged(candidate.offer, today)
    billed = terms(offer, estimate, to_bucket=budget.to_bucket, finished=False)
    if cap is None or billed.microusd_per_hour == 0:
        return budget.max_hours
    left = max(0, cap - billed.egress_microusd)
    units = left * 3600 // (billed.microusd_per_hour * billed.billing_seconds)
    seconds = units * billed.billing_seconds
    if seconds < billed.billing_minimum_seconds:
        return 0.0
    return min(budget.max_hours, seconds / 3600)


def job_hours(candidate: Candidate, budget: Budget, today: str) -> float:
    """Hours from the request until the job must have been told to stop: what is left of the
    affordable ones when the end of a rented machine is paid for."""
    hours = affordable_hours(candidate, budget, today)
    if candidate.offer.provider == LOCAL:
        return hours
    at_most, _ = teardown(budget.collect_minutes)
    return max(0.0, hours - at_most.high / 3600)


def deadline(candidate: Candidate, budget: Budget, created_at: str) -> datetime:
    """When the job must have been told to stop that asks for its machine at `created_at`."""
    hours = job_hours(candidate, budget, created_at[:10])
    return datetime.fromisoformat(created_at) + timedelta(hours=hours)


def hourly_microusd(offer: Offer, estimate: Estimate) -> int:
    """What an hour of the machine costs, its disk included."""
    return offer.microusd_per_hour + disk_microusd_per_hour(offer, estimate)


def disk_microusd_per_hour(offer: Offer, estimate: Estimate) -> int:
    """What an hour of the machine's disk costs."""
    return offer.microusd_per_gib_disk_hour * disk_gib(estimate)
