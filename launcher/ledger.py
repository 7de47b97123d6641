"""What was done, what it may cost and what it took: SQLite, append-only events and a projection.

Every change is one event; projection.py brings the tables of migrations.py up to date in the same
transaction, so neither can be ahead of the other. A run stands here before
anything is started, and a machine before it is asked for.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from launcher.errors import BadInput, OutsideFailed
from launcher.events import (
    Adopted,
    Decided,
    Event,
    MachineChanged,
    Measured,
    MemberSkipped,
    PortfolioBegun,
    RunCreated,
    StateChanged,
)
from launcher.migrations import MIGRATIONS
from launcher.nearest import nearest
from launcher.projection import project
from launcher.types import (
    Attempt,
    Measurement,
    Member,
    Origin,
    Plan,
    Portfolio,
    Run,
    Skipped,
)

MEASUREMENTS_SINCE = 2  # the version that first has them


class _Created(Struct):
    """RunCreated with its plan unread: another version would write it with other defaults."""

    plan: msgspec.Raw


# A run that ended may start again as a new attempt; nothing else leaves an ended state.
_NEXT: dict[str, tuple[str, ...]] = {
    "PENDING": ("PROVISIONING", "FAILED", "CANCELLED"),
    "PROVISIONING": ("RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"),
    "RUNNING": ("SUCCEEDED", "FAILED", "CANCELLED"),
    "SUCCEEDED": (),
    "FAILED": ("PROVISIONING",),
    "CANCELLED": ("PROVISIONING",),
}


class Ledger:
    """One connection; safe for several processes at once (WAL, immediate transactions)."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._migrate(path)
        except (OSError, sqlite3.Error) as error:
            raise OutsideFailed(
                f"the ledger {path} cannot be opened: {error}; nothing was started. "
                "Set XDG_STATE_HOME to a folder that can be written, or mend the file"
            ) from None

    def _migrate(self, path: Path) -> None:
        if self._version() == len(MIGRATIONS):  # as nearly always: who only reads waits for nobody
            return
        with self._transaction():
            version = self._version()
            if version > len(MIGRATIONS):
                raise OutsideFailed(
                    f"the ledger {path} was written by a newer version ({version}, this one "
                    f"knows {len(MIGRATIONS)}); update loralift"
                )
            for number in range(version, len(MIGRATIONS)):
                for statement in _statements(MIGRATIONS[number]):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number + 1}")

    def _version(self) -> int:
        found: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile: what is read here still holds when it is written on. All or
        nothing. Raises OutsideFailed when the ledger cannot be written."""
        try:
            with self._transaction():
                yield
        except sqlite3.Error as error:
            raise OutsideFailed(f"the ledger cannot be written: {error}") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._db.in_transaction:  # of `alone`: it ends it
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def append(self, run_id: str, at: str, *events: Event) -> None:
        """Write events and what follows from them, all or nothing.

        A state that cannot follow the present one, or of an attempt that is not the latest, is
        dropped, not an error: two terminals may see the same job end, and the first to say so is
        right. So is a second measurement of an attempt. Raises BadInput for a run or attempt that
        is there already, OutsideFailed when the ledger cannot be written.
        """
        self.extend(run_id, [(at, event) for event in events])

    def extend(self, run_id: str, events: Iterable[tuple[str, Event]]) -> None:
        """The same for events that have each their own time. Raises as `append` does."""
        try:
            with self._transaction():
                for at, event in events:
                    self._append(run_id, at, event)
        except sqlite3.IntegrityError as error:
            raise BadInput(f"run {run_id} is being started by someone else: {error}") from None
        except sqlite3.Error as error:
            raise OutsideFailed(f"the ledger cannot be written: {error}") from None

    def _append(self, run_id: str, at: str, event: Event) -> None:
        if isinstance(event, StateChanged) and not self._may_become(run_id, event):
            return
        if isinstance(event, MachineChanged) and self._is_gone(run_id, event.attempt):
            return
        if isinstance(event, Measured) and self._is_measured(run_id, event.attempt):
            return
        body = msgspec.json.encode(event).decode()
        self._db.execute(
            "INSERT INTO events (run_id, at, kind, body) VALUES (?, ?, ?, ?)",
            (run_id, at, str(event.__struct_config__.tag), body),
        )
        project(self._db, run_id, at, event)

    def _may_become(self, run_id: str, event: StateChanged) -> bool:
        row = self._db.execute(
            "SELECT state, (SELECT max(attempt) FROM attempts a WHERE a.run_id = r.run_id) "
            "FROM runs r WHERE run_id = ?",
            (run_id,),
        ).fetchone()
        return row is not None and event.state in _NEXT[row[0]] and event.attempt == row[1]

    def _is_gone(self, run_id: str, attempt: int) -> bool:
        row = self._db.execute(
            "SELECT state FROM machines WHERE run_id = ? AND attempt = ?", (run_id, attempt)
        ).fetchone()
        return row is not None and row[0] == "GONE"

    def _is_measured(self, run_id: str, attempt: int) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM measurements WHERE run_id = ? AND attempt = ?", (run_id, attempt)
        ).fetchone()
        return row is not None

    # --- reading; each raises OutsideFailed where the ledger cannot be read -------------------

    def _rows(self, query: str, values: Sequence[str] | dict[str, str] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise OutsideFailed(f"the ledger cannot be read: {error}") from None

    def _row(self, query: str, values: Sequence[str] | dict[str, str] = ()) -> Any:
        """The first of them; None where there is none."""
        return next(iter(self._rows(query, values)), None)

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        rows = self._rows("SELECT run_id FROM runs ORDER BY created_at DESC, run_id DESC")
        return [self.run(row[0]) for row in rows]

    def climb(self, run_id: str) -> list[Run]:
        """The runs of the climb that this one belongs to, in order. Raises as `run` does."""
        first = self.run(run_id).climb or run_id
        query = "SELECT run_id FROM runs WHERE climb = ? ORDER BY created_at, rowid"
        rows = self._rows(query, (first,))
        return [self.run(row[0]) for row in rows] or [self.run(run_id)]

    def origin(self, run_id: str) -> Origin:
        """Where the run comes from, and what it draws on."""
        return self._created(run_id).origin

    def caps(self) -> dict[str, int]:
        """Every budget's cap, in micro-dollars."""
        return dict(self._rows("SELECT name, cap_microusd FROM budgets"))

    def drawing_on(self, budget: str) -> list[Run]:
        """The runs that are paid from this budget, in order."""
        query = (
            "SELECT run_id FROM draws JOIN runs USING (run_id) WHERE budget = ? "
            "ORDER BY created_at, run_id"
        )
        return [self.run(row[0]) for row in self._rows(query, (budget,))]

    def undecided(self) -> list[Run]:
        """The last runs of climbs that have ended and have neither passed nor been given up."""
        query = (
            "SELECT run_id FROM runs r WHERE escalate <> 'no' AND ended_at IS NOT NULL "
            "AND decision NOT IN ('done', 'stop') AND NOT EXISTS "
            "(SELECT 1 FROM runs l WHERE l.climb = r.climb AND l.rowid > r.rowid) ORDER BY rowid"
        )
        return [self.run(row[0]) for row in self._rows(query)]

    def decided(self, run_id: str) -> Decided | None:
        """What was last decided to come of the run, since it was last started."""
        query = (
            "SELECT body FROM events WHERE run_id = :run AND kind = 'decided' AND id > coalesce("
            "(SELECT max(id) FROM events WHERE run_id = :run AND kind = 'attempt_started'), 0) "
            "ORDER BY id DESC LIMIT 1"
        )
        row = self._row(query, {"run": run_id})
        return None if row is None else msgspec.json.decode(row[0], type=Decided)

    def portfolio(self, portfolio_id: str) -> Portfolio | None:
        """The portfolio of that id, as it was begun."""
        query = "SELECT body FROM events WHERE run_id = ? AND kind = 'portfolio_begun'"
        row = self._row(query, (portfolio_id,))
        return None if row is None else _portfolio_begun(row[0]).portfolio

    def portfolio_of(self, run_id: str) -> Portfolio | None:
        """The portfolio that has the run as a member's first, begun or not."""
        query = "SELECT portfolio FROM members WHERE run_id = ?"
        row = self._row(query, (run_id,))
        return None if row is None else self.portfolio(row[0])

    def going_on(self) -> list[str]:
        """The ids of the portfolios that have not ended, in order."""
        query = "SELECT portfolio FROM portfolios WHERE NOT ended ORDER BY rowid"
        return [row[0] for row in self._rows(query)]

    def ended(self, portfolio_id: str) -> str | None:
        """Why the portfolio begins no more members, "" where all were begun; None while it does."""
        query = "SELECT why FROM portfolios WHERE portfolio = ? AND ended"
        row = self._row(query, (portfolio_id,))
        return None if row is None else str(row[0])

    def skipped(self, portfolio_id: str) -> dict[str, Skipped]:
        """The members that were not begun and are not going to be, by their first run."""
        query = "SELECT body FROM events WHERE run_id = ? AND kind = 'member_skipped' ORDER BY id"
        rows = self._rows(query, (portfolio_id,))
        found = [msgspec.json.decode(row[0], type=MemberSkipped) for row in rows]
        return {one.run_id: one.skipped for one in found}

    def waiting(self, portfolio: Portfolio) -> list[Member]:
        """The members that are still to be begun, in order."""
        query = (
            "SELECT run_id FROM members m WHERE portfolio = ? AND NOT skipped AND NOT EXISTS "
            "(SELECT 1 FROM runs r WHERE r.run_id = m.run_id)"
        )
        found = {row[0] for row in self._rows(query, (portfolio.portfolio_id,))}
        return [member for member in portfolio.members if member.run_id in found]

    def find(self, run_id: str) -> Run | None:
        row = self._row(
            "SELECT run_id, created_at, store, state, reason, message, ended_at, folder, bucket, "
            "climb, rung FROM runs WHERE run_id = ?",
            (run_id,),
        )
        if row is None:
            return None
        attempts = self._rows(
            "SELECT m.microusd_per_hour, m.billing_seconds, m.billing_minimum_seconds, "
            "m.egress_microusd, a.attempt, a.started_at, a.executor, a.handle, m.provider, "
            "m.instance, m.state, m.gone_at, a.candidate, m.account_microusd, m.price_as_of "
            "FROM attempts a JOIN machines m USING (run_id, attempt) "
            "WHERE a.run_id = ? ORDER BY a.attempt",
            (run_id,),
        )
        names = Attempt.__struct_fields__
        return Run(
            **dict(zip(Run.__struct_fields__[:-1], row, strict=True)),
            attempts=tuple(Attempt(**dict(zip(names, a, strict=True))) for a in attempts),
        )

    def run(self, run_id: str) -> Run:
        """One run by its id. Raises BadInput with the nearest ids where there is none."""
        found = self.find(run_id)
        if found is not None:
            return found
        known = [row[0] for row in self._rows("SELECT run_id FROM runs")]
        near = nearest(run_id, known, 2)
        hint = f"did you mean {' or '.join(near)}?" if near else "`launch runs` lists them"
        raise BadInput(f"no run {run_id} in the ledger; {hint}")

    def plan(self, run_id: str) -> Plan:
        return self._created(run_id).plan

    def _created(self, run_id: str) -> RunCreated:
        return _run_created(self._created_body(run_id))

    def _created_body(self, run_id: str) -> str:
        row = self._row(
            "SELECT body FROM events WHERE run_id = ? AND kind = 'run_created'", (run_id,)
        )
        if row is None:
            raise BadInput(f"no run {run_id} in the ledger; `launch runs` lists them")
        return str(row[0])

    def plan_document(self, run_id: str) -> bytes:
        """plan.json: the plan byte for byte as it was submitted, indented for people."""
        created = msgspec.json.decode(self._created_body(run_id), type=_Created)
        return msgspec.json.format(created.plan, indent=2) + b"\n"

    def adopted(self, run_id: str) -> int:
        """How many of the run's attempts another ledger started: the first ones."""
        query = "SELECT body FROM events WHERE run_id = ? AND kind = 'adopted'"
        row = self._row(query, (run_id,))
        return 0 if row is None else msgspec.json.decode(row[0], type=Adopted).attempts

    def events(self, run_id: str) -> list[tuple[str, Event]]:
        rows = self._rows("SELECT at, body FROM events WHERE run_id = ? ORDER BY id", (run_id,))
        return [(at, msgspec.json.decode(body, type=Event)) for at, body in rows]


# Both hold whole plans, stay as they are written, and are asked for at every look.
@lru_cache(maxsize=64)
def _run_created(body: str) -> RunCreated:
    return msgspec.json.decode(body, type=RunCreated)


@lru_cache(maxsize=8)
def _portfolio_begun(body: str) -> PortfolioBegun:
    return msgspec.json.decode(body, type=PortfolioBegun)


def measurements(path: Path) -> list[Measurement]:
    """What finished runs measured, the latest attempt of each; none where there is no ledger.

    Nothing is created, and an older ledger stays as it is. Raises
    OutsideFailed for one that cannot be read.
    """
    names = Measurement.__struct_fields__
    query = (
        f"SELECT {', '.join(names)} FROM measurements m WHERE attempt = "
        "(SELECT max(attempt) FROM measurements l WHERE l.run_id = m.run_id)"
    )
    try:
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=10.0, uri=True)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < MEASUREMENTS_SINCE:
                return []
            rows = [dict(zip(names, row, strict=True)) for row in db.execute(query)]
            return msgspec.convert(rows, type=list[Measurement])
    except (OSError, sqlite3.Error, msgspec.ValidationError) as error:
        raise OutsideFailed(f"the ledger {path} cannot be read: {error}") from None


def _statements(script: str) -> Iterator[str]:
    """The statements of a migration, one at a time: `executescript` would commit by itself."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
