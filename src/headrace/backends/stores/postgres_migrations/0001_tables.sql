-- The first schema; {schema} is replaced by its name. Times are seconds since the epoch; tags, params, attributes,
-- payloads, info and events are JSON text. Everything is compared byte by byte (COLLATE "C"): ids sort alike everywhere
-- and no index depends on the version of a locale.

CREATE TABLE {schema}.schema_version (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version integer NOT NULL
);
COMMENT ON TABLE {schema}.schema_version IS 'Headrace: how many migrations were applied';
INSERT INTO {schema}.schema_version (version) VALUES (0);

-- Epochs come from one sequence for all nodes: they never return, even after the row of a node is gone.
CREATE SEQUENCE {schema}.epochs AS bigint;

-- UNIQUE makes epoch a key in the eyes of row locks: whoever changes it waits for the flushes under way, which hold
-- FOR KEY SHARE, while a renewal changes no key and never waits for them nor they for it.
-- claim: the number of the newest claim, see claim_1. lost_at: when the lease was taken away; such rows are kept a while
-- for people to see.
CREATE TABLE {schema}.nodes (
    node text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL UNIQUE,
    expires_at double precision NOT NULL,
    lost_at double precision,
    claim bigint NOT NULL DEFAULT 0,
    bell text NOT NULL,
    info text NOT NULL
) WITH (fillfactor = 50);

-- put_number rises with every put: "the version put last" must not depend on a clock.
CREATE SEQUENCE {schema}.puts AS bigint;
CREATE TABLE {schema}.workflows (
    version text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    put_number bigint NOT NULL,
    created_at double precision NOT NULL,
    source text NOT NULL,
    data text NOT NULL
);
CREATE UNIQUE INDEX workflows_by_name ON {schema}.workflows (name, put_number);

-- Columns that every flush changes (last_seq, tasks_*) are in no index and pages keep room, so that such an update
-- touches neither an index nor another page (HOT). claim: the number of the claim that brought the run to its owner.
CREATE TABLE {schema}.runs (
    run_id text COLLATE "C" PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL,
    ended_at double precision,
    trigger text COLLATE "C" NOT NULL,
    parent text COLLATE "C",
    error text COLLATE "C",
    tasks_total integer NOT NULL,
    tasks_done integer NOT NULL,
    tasks_failed integer NOT NULL,
    last_seq integer NOT NULL,
    owner text COLLATE "C",
    claim bigint NOT NULL DEFAULT 0,
    wake_at double precision,
    key text COLLATE "C",
    tags text NOT NULL,
    params text NOT NULL,
    attributes text NOT NULL
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX runs_by_workflow ON {schema}.runs (workflow, run_id);
CREATE INDEX runs_by_state ON {schema}.runs (state, run_id);
CREATE INDEX runs_by_owner ON {schema}.runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_claimable ON {schema}.runs (wake_at, run_id) WHERE owner IS NULL AND ended_at IS NULL;
CREATE INDEX runs_ended ON {schema}.runs (ended_at) WHERE ended_at IS NOT NULL;

-- An entry of an index has a size limit, what users write has none: indexes hold the beginnings of such texts.
CREATE INDEX runs_by_key ON {schema}.runs (left(key, 100), run_id) WHERE key IS NOT NULL;

CREATE TABLE {schema}.run_tags (
    key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL
);
CREATE INDEX run_tags_by_value ON {schema}.run_tags (left(key, 100), left(value, 100), run_id);
CREATE INDEX run_tags_by_run ON {schema}.run_tags (run_id);

-- The latest run of every key. Whether it holds the key follows from whether it has ended; while it is being created
-- (there is no such run yet), from whether the node that creates it still holds its epoch.
CREATE TABLE {schema}.run_keys (
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (workflow, key)
);

-- One row per value, lists item by item. kind is text, number or flag (number 0 or 1): values of different kinds are
-- never equal.
CREATE TABLE {schema}.run_attributes (
    name text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    text text COLLATE "C",
    number double precision,
    run_id text COLLATE "C" NOT NULL
);
CREATE INDEX run_attributes_by_text ON {schema}.run_attributes (left(name, 100), left(text, 100), run_id) WHERE kind = 'text';
CREATE INDEX run_attributes_by_number ON {schema}.run_attributes (left(name, 100), number, run_id) WHERE kind <> 'text';
CREATE INDEX run_attributes_by_run ON {schema}.run_attributes (run_id);

-- Only ever inserted into and deleted from. No foreign key to runs: it would cost a lookup and a lock for every event,
-- and the same transaction writes both.
CREATE TABLE {schema}.events (
    run_id text COLLATE "C" NOT NULL,
    seq integer NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (run_id, seq)
);

-- A sequence never gives a number twice, so a repeated flush cannot delete a newer message. Rows come and go: vacuum by
-- their number, not by their share.
CREATE TABLE {schema}.inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    payload text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX inbox_by_run ON {schema}.inbox (run_id, id);

-- Runs deleted by retention whose events are still being removed, a bounded batch at a time.
CREATE TABLE {schema}.deleted_runs (
    run_id text COLLATE "C" PRIMARY KEY
);
