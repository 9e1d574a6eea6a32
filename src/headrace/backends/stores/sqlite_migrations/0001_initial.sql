-- The first schema. Times are seconds since the epoch; tags, params, payloads, info and events are JSON text, so that
-- the sqlite3 shell can read them.

-- Epochs come from one counter for all nodes: they never return, even after the row of a node is gone.
CREATE TABLE epochs (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
);
INSERT INTO epochs (id, last) VALUES (1, 0);

-- lost_at: when the lease was taken away; such rows are kept a while for people to see.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    lost_at REAL,
    bell TEXT NOT NULL,
    info TEXT NOT NULL
) WITHOUT ROWID;

-- put_number rises with every put: "the version put last" must not depend on a clock.
CREATE TABLE workflows (
    version TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    put_number INTEGER NOT NULL,
    created_at REAL NOT NULL,
    source TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE UNIQUE INDEX workflows_by_name ON workflows (name, put_number);

-- Columns that every flush changes (last_seq, tasks_*) are in no index. Without a rowid every index carries run_id,
-- which is the order of all lists.
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    ended_at REAL,
    trigger TEXT NOT NULL,
    parent TEXT,
    error TEXT,
    tasks_total INTEGER NOT NULL,
    tasks_done INTEGER NOT NULL,
    tasks_failed INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    owner TEXT,
    wake_at REAL,
    tags TEXT NOT NULL,
    params TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_workflow ON runs (workflow, run_id);
CREATE INDEX runs_by_state ON runs (state, run_id);
CREATE INDEX runs_by_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_claimable ON runs (wake_at, run_id) WHERE owner IS NULL AND ended_at IS NULL;
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE run_tags (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (key, value, run_id)
) WITHOUT ROWID;

-- No foreign key to runs: it would cost a lookup for every event, and the same transaction writes both.
CREATE TABLE events (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

-- AUTOINCREMENT: an id is never used twice, so a repeated flush cannot delete a newer message.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX inbox_by_run ON inbox (run_id, id);

-- Runs deleted by retention whose events are still being removed, a bounded batch at a time.
CREATE TABLE deleted_runs (
    run_id TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
