-- Attempts on offer to other nodes and workers: see headrace.contracts.ready. Narrow, because claims change rows; what a
-- claimer needs to know of the attempt is written once, beside.
CREATE TABLE ready (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    queue TEXT NOT NULL,
    executor TEXT NOT NULL,
    labels TEXT NOT NULL,
    priority INTEGER NOT NULL,
    at_most_once INTEGER NOT NULL,
    offered_at REAL NOT NULL,
    worker TEXT,
    worker_epoch INTEGER,
    delivery INTEGER NOT NULL DEFAULT 0,
    claimed_at REAL,
    stop INTEGER NOT NULL DEFAULT 0,
    details TEXT
);
CREATE INDEX ready_by_run ON ready (run_id);
CREATE INDEX ready_waiting ON ready (queue, executor, priority DESC, number) WHERE worker IS NULL;
CREATE INDEX ready_claimed ON ready (worker) WHERE worker IS NOT NULL;

CREATE TABLE ready_calls (
    key TEXT PRIMARY KEY NOT NULL REFERENCES ready (key) ON DELETE CASCADE,
    call TEXT NOT NULL
) WITHOUT ROWID;
