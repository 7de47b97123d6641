"""From a plan to the offer that is taken: the first, in the plan's order, that passes its checks
and whose price of now the cap holds."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from launcher.catalog.providers import LOCAL
from launcher.checking.checks import Check
from launcher.checking.fresh_price import Asking, Askings
from launcher.checking.rentable import Refused, named, rentable
from launcher.errors import BadInput, LaunchError, NothingFits, OutsideFailed
from launcher.paths import is_remote
from launcher.planning.refusals import usd
from launcher.preflight import (
    OF_THE_OFFER,
    OF_THE_PROVIDER,
    every,
    immediate,
    of_publishing,
    of_the_offer,
)
from launcher.types import Candidate, Plan

Say = Callable[[str], None]

_SHOWN = 2  # failed checks, or reasons, in an error, which has three lines


def ready(plan: Plan, store: str | None, hub: str | None, say: Say) -> Plan:
    """The plan as it may be submitted: checked, and at the price of now where it costs money.

    An offer that is not there, not fit or grown too dear is passed over, said in one line, and the
    next that holds the cap is chosen. Raises BadInput, OutsideFailed, or NothingFits where the cap
    holds no price. A plan without a choice comes back as it is; what costs nothing is looked at as
    far as that takes no time, and asks nobody but the Hub, where it is to publish there.
    """
    if plan.chosen is None:
        return plan
    askings = Askings(datetime.now(UTC).date().isoformat())
    refused: dict[int, Refused] = {}
    said, job_is_known = "", False
    for index in _in_turn(plan, store):
        candidate = plan.candidates[index]
        if any(_closes(refused[i], plan.candidates[i], candidate) for i in refused):
            continue
        if said:
            say(f"{said}; going on with {named(candidate.offer)}")
        asking = askings.about(candidate.offer.provider)
        if not candidate.worst_microusd:
            found = [*immediate(plan, candidate, store), *of_publishing(hub)]
        elif job_is_known:
            found = of_the_offer(plan, candidate, asking)
        else:
            say("checking what can be known before the first paid second")
            found, job_is_known = every(plan, candidate, store, hub, asking), True
            for check in found:
                if check.state in ("skipped", "unknown"):
                    say(f"not checked: {check.line}")
                elif check.state == "ok" and check.next:
                    say(check.line)
        taken = _taken(found, plan, candidate, asking)
        if isinstance(taken, Candidate):
            return _with_choice(plan, index, taken, refused)
        refused[index] = taken
        said = f"{named(candidate.offer)} is passed over: {taken.why}"
    raise _nobody_left(list(refused.values()))


def _in_turn(plan: Plan, store: str | None) -> Iterator[int]:
    """The chosen offer, then where the plan goes on: on spot only where a bucket keeps the run."""
    yield 0
    bucket = store is not None and is_remote(store)
    for fallback in plan.fallbacks:
        if bucket or not fallback.offer.spot:
            yield plan.candidates.index(fallback)


def _closes(refused: Refused, candidate: Candidate, other: Candidate) -> bool:
    """Whether what was said of one is so of the other: of all that its provider has, or of all that
    is rented."""
    if refused.of_all_rented:
        return other.offer.provider != LOCAL
    return refused.of_the_provider and candidate.offer.provider == other.offer.provider


def _taken(
    found: list[Check], plan: Plan, candidate: Candidate, asking: Asking
) -> Candidate | Refused:
    """The candidate at the price of now, or what its checks say against it. Raises what is wrong
    with the job, wherever it would run."""
    failed = [check for check in found if check.state == "failed"]
    kind = OutsideFailed if all(check.outside for check in failed) else BadInput
    if any(check.name not in OF_THE_OFFER for check in failed):
        lines = [check.line for check in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"and {len(failed) - _SHOWN} more: `launch doctor` with the same flags")
        raise kind("\n".join(lines))
    if failed:
        everywhere = any(check.name in OF_THE_PROVIDER for check in failed)
        why = "; ".join(check.line for check in failed)
        return Refused(why, kind, everywhere, everywhere and asking.nobody)
    return rentable(candidate, plan.budget, asking) if candidate.worst_microusd else candidate


def _with_choice(plan: Plan, index: int, taken: Candidate, refused: dict[int, Refused]) -> Plan:
    """The plan with this one chosen; those that were passed over stand at its end."""
    if taken is plan.chosen:
        return plan
    if refused:
        worst, cap = usd(taken.worst_microusd), usd(plan.budget.max_cost_microusd or 0)
        why = f"worst {worst} within the cap of {cap}; {len(refused)} before it passed over"
        taken = msgspec.structs.replace(taken, verdict="chosen", reason=why)
    others = [c for i, c in enumerate(plan.candidates) if i != index and i not in refused]
    passed_over = [
        msgspec.structs.replace(plan.candidates[i], verdict="rejected", reason=refused[i].why)
        for i in refused
    ]
    return msgspec.structs.replace(plan, candidates=(taken, *others, *passed_over))


def _nobody_left(refused: list[Refused]) -> LaunchError:
    """Every reason, once; in three lines."""
    reasons = list(dict.fromkeys(one.why for one in refused))
    kinds = {one.kind for one in refused}
    lines = [*reasons[: _SHOWN - 1], "; ".join(reasons[_SHOWN - 1 :])]
    kind: type[LaunchError] = OutsideFailed if kinds == {OutsideFailed} else BadInput
    if NothingFits in kinds:
        kind = NothingFits
        lines.append("plan again: another offer may hold it; or raise --max-cost")
    return kind("\n".join(filter(None, lines)))
