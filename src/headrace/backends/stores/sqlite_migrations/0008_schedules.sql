-- Schedules, see contracts/schedules.py. The document is core/schedules.py's; wake_at says when the leader looks at it.
CREATE TABLE schedules (
    name TEXT PRIMARY KEY NOT NULL,
    revision INTEGER NOT NULL,
    wake_at REAL,
    data TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedules_by_wake ON schedules (wake_at) WHERE wake_at IS NOT NULL;
