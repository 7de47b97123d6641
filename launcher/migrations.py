"""The ledger's tables, as they came to be: one script a version, never changed once released."""

MIGRATIONS = (
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL,
        at TEXT NOT NULL,           -- UTC, ISO 8601
        kind TEXT NOT NULL,
        body TEXT NOT NULL          -- JSON
    );
    CREATE INDEX events_by_run ON events (run_id, id);
    CREATE TRIGGER events_are_kept BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
    CREATE TRIGGER events_stay_as_written BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        store TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        message TEXT,
        ended_at TEXT,
        folder TEXT                 -- where collect brought it
    );
    CREATE TABLE attempts (
        run_id TEXT NOT NULL REFERENCES runs,
        attempt INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        executor TEXT NOT NULL,
        handle TEXT NOT NULL,
        PRIMARY KEY (run_id, attempt)
    );
    CREATE TABLE machines (
        run_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        provider TEXT NOT NULL,
        instance TEXT NOT NULL,
        microusd_per_hour INTEGER NOT NULL,
        state TEXT NOT NULL,
        requested_at TEXT NOT NULL,
        gone_at TEXT,
        PRIMARY KEY (run_id, attempt)
    );
    """,
    """
    CREATE TABLE measurements (
        run_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        card TEXT NOT NULL,
        device TEXT NOT NULL,
        strategy TEXT NOT NULL,
        model TEXT NOT NULL,
        memory_metric TEXT NOT NULL,
        memory_bytes INTEGER,
        memory_estimated_bytes INTEGER,
        training_tokens INTEGER,
        training_seconds REAL,
        training_estimated_seconds REAL,
        PRIMARY KEY (run_id, attempt)
    );
    """,
    """
    ALTER TABLE attempts ADD COLUMN candidate INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN bucket TEXT NOT NULL DEFAULT '';
    ALTER TABLE machines ADD COLUMN account_microusd INTEGER;
    """,
    """
    ALTER TABLE machines ADD COLUMN billing_seconds INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE machines ADD COLUMN billing_minimum_seconds INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE machines ADD COLUMN egress_microusd INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE machines ADD COLUMN price_as_of TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE runs ADD COLUMN climb TEXT NOT NULL DEFAULT '';  -- its first run
    ALTER TABLE runs ADD COLUMN rung INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN escalate TEXT NOT NULL DEFAULT 'no';
    ALTER TABLE runs ADD COLUMN decision TEXT NOT NULL DEFAULT '';  -- since its latest attempt
    CREATE TABLE budgets (
        name TEXT PRIMARY KEY,      -- a climb's first run, or project/NAME
        cap_microusd INTEGER NOT NULL
    );
    CREATE TABLE draws (            -- which budgets a run is paid from: all of them
        run_id TEXT NOT NULL REFERENCES runs,
        budget TEXT NOT NULL,
        PRIMARY KEY (run_id, budget)
    );
    """,
    """
    CREATE TABLE portfolios (
        portfolio TEXT PRIMARY KEY,
        ended INTEGER NOT NULL DEFAULT 0,
        why TEXT NOT NULL DEFAULT ''     -- stopped by somebody
    );
    CREATE TABLE members (
        run_id TEXT PRIMARY KEY,    -- of its first run, begun or not
        portfolio TEXT NOT NULL REFERENCES portfolios,
        skipped INTEGER NOT NULL DEFAULT 0
    );
    """,
)
