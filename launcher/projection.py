"""What the ledger's tables say after an event: the only code that changes them."""

import sqlite3

import msgspec

from launcher.events import (
    AttemptStarted,
    BudgetSet,
    Collected,
    Decided,
    Event,
    MachineChanged,
    Measured,
    MemberSkipped,
    PassedOver,
    PortfolioBegun,
    PortfolioEnded,
    RunCreated,
    StateChanged,
)
from launcher.types import ENDED


def project(db: sqlite3.Connection, run_id: str, at: str, event: Event) -> None:
    """Bring the tables up to date with one event, in the transaction that `db` is in."""
    run = db.execute
    match event:
        case RunCreated(store=store, bucket=bucket, origin=origin):
            marks = (origin.rung, origin.escalate)
            run(
                "INSERT INTO runs "
                "(run_id, created_at, store, state, bucket, climb, rung, escalate) "
                "VALUES (?, ?, ?, 'PENDING', ?, ?, ?, ?)",
                (run_id, at, store, bucket, origin.climb or run_id, *marks),
            )
            for name in origin.budgets:
                run("INSERT INTO draws VALUES (?, ?)", (run_id, name))
        case BudgetSet(name=name, cap_microusd=cap):
            run("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (name, cap))
        case Decided(move=move):
            run("UPDATE runs SET decision = ? WHERE run_id = ?", (move, run_id))
        case AttemptStarted() as a:
            run(
                "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, a.attempt, at, a.executor, a.handle, a.candidate),
            )
            run("UPDATE runs SET decision = '' WHERE run_id = ?", (run_id,))
            asked_for = (run_id, a.attempt, a.provider, a.instance, a.microusd_per_hour, at)
            billed = (a.billing_seconds, a.billing_minimum_seconds, a.egress_microusd)
            run(
                "INSERT INTO machines VALUES "
                "(?, ?, ?, ?, ?, 'REQUESTED', ?, NULL, NULL, ?, ?, ?, ?)",
                (*asked_for, *billed, a.price_as_of),
            )
        case MachineChanged() as m:
            gone = (m.at or at) if m.state == "GONE" else None
            run(
                "UPDATE machines SET state = ?, gone_at = ?, account_microusd = ?, "
                "egress_microusd = coalesce(?, egress_microusd) "
                "WHERE run_id = ? AND attempt = ?",
                (m.state, gone, m.account_microusd, m.egress_microusd, run_id, m.attempt),
            )
        case StateChanged(state=state, reason=reason, message=message):
            ended = at if state in ENDED else None
            run(
                "UPDATE runs SET state = ?, reason = ?, message = ?, ended_at = ? WHERE run_id = ?",
                (state, reason, message, ended, run_id),
            )
        case PassedOver(message=message):
            run(
                "UPDATE runs SET message = coalesce(message || char(10), '') || ? WHERE run_id = ?",
                (message, run_id),
            )
        case Collected(folder=folder):
            run("UPDATE runs SET folder = ? WHERE run_id = ?", (folder, run_id))
        case PortfolioBegun(portfolio=portfolio):
            run("INSERT INTO portfolios (portfolio) VALUES (?)", (run_id,))
            for member in portfolio.members:
                row = (member.run_id, run_id)
                run("INSERT INTO members (run_id, portfolio) VALUES (?, ?)", row)
        case MemberSkipped(run_id=skipped):
            run("UPDATE members SET skipped = 1 WHERE run_id = ?", (skipped,))
        case PortfolioEnded(why=why):
            run("UPDATE portfolios SET ended = 1, why = ? WHERE portfolio = ?", (why, run_id))
        case Measured(attempt=attempt, measurement=measurement):
            row = (run_id, attempt, *msgspec.structs.astuple(measurement))
            run(f"INSERT INTO measurements VALUES ({', '.join('?' * len(row))})", row)
