"""A canary for people: what it will rent, and what it proved."""

from collections.abc import Sequence

from launcher.catalog.providers import display_name
from launcher.display.tables import table
from launcher.planning.canary import PARTS, CanaryReceipt, PartName, PartReceipt, intended
from launcher.planning.refusals import usd
from launcher.types import MICROUSD, Plan
from results.receipt import dollars, duration


def intended_text(plan: Plan, names: Sequence[PartName]) -> str:
    """What will be rented, for how long and how much at worst, before anything is."""
    assert plan.chosen is not None, "a canary's plan has a choice"
    offer, parts = plan.chosen.offer, intended(plan, names)
    machines = "one machine" if len(parts) == 1 else f"{len(parts)} machines, one after the other"
    price = f"${offer.microusd_per_hour / MICROUSD:.3f} an hour of {offer.as_of}"
    rows = [["part", "at most", "expected", "at worst", "what it proves"]]
    for part in parts:
        rows.append(
            [
                part.name,
                duration(part.hours_at_most),
                dollars(part.planned_microusd),
                usd(part.cap_microusd),
                PARTS[part.name],
            ]
        )
    cap = usd(plan.budget.max_cost_microusd or 0)
    worst = usd(sum(part.cap_microusd for part in parts))
    hours = duration(sum(part.hours_at_most for part in parts))
    return (
        f"canary {plan.run_id}: {machines}, {offer.device.name} ({offer.instance}) on "
        f"{display_name(offer.provider)}, {price}\n\n{table(rows, right=(1, 2, 3))}\n"
        f"in all {hours} and {worst} at worst, of a cap of {cap}\n"
    )


def canary_text(receipt: CanaryReceipt) -> str:
    """The receipt, to be attached to a report."""
    head = f"canary {receipt.canary_id} on {display_name(receipt.provider)}: {receipt.verdict}"
    when = f"{_time(receipt.started_at)} to {_time(receipt.ended_at)} UTC"
    versions = ", ".join(f"{name} {version}" for name, version in receipt.versions.items())
    rows = [
        ["part", "verdict", "started", "gone", "planned", "metered", "SkyPilot's", "cap", "where"]
    ]
    rows += [_row(part) for part in receipt.parts]
    lines = [head, f"{when}; {versions}", "", table(rows, right=(4, 5, 6, 7)).rstrip(), ""]
    for part in receipt.parts:
        lines.append(f"{part.name}: {PARTS[part.name]}")
        lines += [f"  {line}" for line in part.found.splitlines()]
        lines += [f"  run {part.run_id}: {part.folder or 'not collected'}"] if part.run_id else []
    spent, cap = dollars(receipt.spent_microusd), usd(receipt.max_cost_microusd)
    lines += [
        "",
        f"Spent {spent} of a cap of {cap}. SkyPilot's figures are duration x list price, no bill.",
    ]
    return "\n".join(lines) + "\n"


def _row(part: PartReceipt) -> list[str]:
    if not part.run_id:
        return [part.name, part.verdict, *[""] * 7]
    account = part.accounted_microusd
    places = (part.provider, part.region, part.instance, part.gpu)
    return [
        part.name,
        part.verdict,
        _time(part.started_at),
        _time(part.ended_at) if part.ended_at else "NOT SEEN",
        dollars(part.planned_microusd),
        dollars(part.spent_microusd),
        "unknown" if account is None else dollars(account),
        usd(part.cap_microusd),
        " ".join(filter(None, places)),
    ]


def _time(at: str) -> str:
    return at[:19].replace("T", " ")
