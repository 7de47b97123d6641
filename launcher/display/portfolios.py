"""A portfolio for people: what it would cost, how far it has come, what came of it."""

from launcher.display.climbs import gates_text
from launcher.display.tables import table
from launcher.display.warnings import warning_lines
from launcher.planning.refusals import why_nothing_fits
from launcher.types import Portfolio, PortfolioReceipt, Standing
from results.receipt import at_most, counted, dollars, ended_as

_PLANNED = ("run", "what", "strategy", "where", "hours", "expected", "at worst", "so far at worst")
_STANDING = (
    "run", "what", "where", "ended", "gates", "validation loss", "runs", "planned", "spent", "",
)  # fmt: skip


def plan_text(made: Portfolio) -> str:
    """A line for each member, and how far up the cap allows at worst."""
    rows, expected, worst = [list(_PLANNED)], 0, 0
    for member in made.members:
        chosen = member.plan.chosen
        if chosen is None or chosen.spec is None or chosen.estimate is None:
            why = why_nothing_fits(member.plan)
            rows.append([member.run_id, member.what, "", f"nothing fits: {why}", "", "", "", ""])
            continue
        expected, worst = expected + chosen.expected_microusd, worst + chosen.worst_microusd
        over = made.cap_microusd is not None and worst > made.cap_microusd
        rows.append([
            member.run_id,
            member.what,
            chosen.spec.strategy,
            f"{chosen.offer.provider} {chosen.offer.instance}",
            f"{chosen.estimate.hours_expected:.2f}",
            dollars(chosen.expected_microusd),
            at_most(chosen.worst_microusd),
            at_most(worst) + (" > cap" if over else ""),
        ])  # fmt: skip
    cap = made.cap_microusd
    under = f", cap {at_most(cap)} over all of them" if cap is not None else ""
    most = f", {made.at_once} at once" if made.at_once > 1 else ", one after the other"
    jobs = counted(len(made.members), "job")
    total = f"{jobs}{most}: {dollars(expected)} expected, {at_most(worst)} at worst"
    lines = [f"portfolio {made.portfolio_id}", table(rows, right=(4, 5, 6, 7)).rstrip()]
    lines.append(total + under)
    if cap is not None and worst > cap:
        lines.append(
            "at worst the cap ends before the last of them: what then does not fit is not begun"
        )
    lines += warning_lines(member.plan for member in made.members)
    return "\n".join(lines) + "\n"


def receipt_text(receipt: PortfolioReceipt) -> str:
    """How far each member has come, by its best run, and what all of them have cost."""
    rows = [["", *_STANDING]]
    rows += [["→" if one.run_id == receipt.best else "", *_row(one)] for one in receipt.members]
    cap = receipt.cap_microusd
    of_it = f" of a cap of {at_most(cap)}" if cap is not None else ""
    expected = dollars(sum(one.planned_microusd for one in receipt.members))
    best = "; → is the best" if receipt.best else ""
    lines = [
        f"portfolio {receipt.portfolio_id}{': ' + receipt.stopped if receipt.stopped else ''}",
        table(rows, right=(6, 7, 8, 9)).rstrip(),
        f"{dollars(receipt.spent_microusd)} spent{of_it}, {expected} expected of first runs{best}",
    ]
    return "\n".join(lines) + "\n"


def _row(one: Standing) -> list[str]:
    state = ended_as(one.state or "", one.reason)
    ended = {"waiting": "not begun yet", "skipped": "not begun", "open": state, "over": state}
    return [
        one.run_id,
        one.what,
        one.where,
        ended[one.phase],
        gates_text(one.gates),
        _loss(one),
        str(one.runs),
        dollars(one.planned_microusd),
        dollars(one.spent_microusd),
        one.said,
    ]


def _loss(one: Standing) -> str:
    if one.loss is None:
        return ""
    return f"{one.loss:.4f}{' of test rows' if one.loss_on == 'test' else ''}"
