-- Business keys and searchable attributes.

ALTER TABLE runs ADD COLUMN key TEXT;
ALTER TABLE runs ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
CREATE INDEX runs_by_key ON runs (key, run_id) WHERE key IS NOT NULL;

-- The latest run of every key. Whether it holds the key follows from whether it has ended; while it is being created
-- (there is no such run yet), from whether the node that creates it still holds its epoch.
CREATE TABLE run_keys (
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (workflow, key)
) WITHOUT ROWID;

-- One row per value, lists item by item. kind is text, number or flag (number 0 or 1): values of different kinds are
-- never equal.
CREATE TABLE run_attributes (
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT,
    number REAL,
    run_id TEXT NOT NULL
);
CREATE INDEX run_attributes_by_text ON run_attributes (name, text, run_id) WHERE kind = 'text';
CREATE INDEX run_attributes_by_number ON run_attributes (name, number, run_id) WHERE kind <> 'text';
CREATE INDEX run_attributes_by_run ON run_attributes (run_id);
