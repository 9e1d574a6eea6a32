-- The first schema: tables. A line of two semicolons ends a statement. DDL is not transactional here, so every statement
-- can be repeated: a migration that was cut short is done again from its beginning.
--
-- Whatever is compared is binary (VARBINARY, LONGBLOB: UTF-8, byte by byte), so that ids sort alike on MySQL and MariaDB,
-- under any default of the server, and 'k' and 'k ' are two keys. Times are seconds since the epoch. tags, params,
-- attributes, payloads, info and events are JSON text.

CREATE TABLE IF NOT EXISTS headrace_version (
    id INT NOT NULL PRIMARY KEY,
    version INT NOT NULL
) ENGINE=InnoDB COMMENT='Headrace: how many migrations were applied'
;;
INSERT INTO headrace_version (id, version) VALUES (1, 0) ON DUPLICATE KEY UPDATE id = 1
;;

-- The only clock there is. A view, not a function: making a function takes special rights where there is a binary log.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW clock AS SELECT UNIX_TIMESTAMP(SYSDATE(6)) + 0e0 AS seconds
;;

-- epochs: one number for all nodes, which never returns, even after the row of a node is gone. puts: "the version put
-- last" must not depend on a clock.
CREATE TABLE IF NOT EXISTS counters (
    name VARBINARY(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE=InnoDB
;;
INSERT INTO counters (name, value) VALUES ('epochs', 0), ('puts', 0) ON DUPLICATE KEY UPDATE name = VALUES(name)
;;

-- Three rows per node, because InnoDB locks rows, not columns: flushes hold a shared lock on nodes, which only a change of
-- the epoch has to wait for; a renewal touches nothing but leases, a claim's number nothing but claims.
-- A node that was lost has no lease; its row in nodes is kept a while (lost_at, expires_at) for people to see.
CREATE TABLE IF NOT EXISTS nodes (
    node VARBINARY(255) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    lost_at DOUBLE,
    expires_at DOUBLE,
    bell LONGBLOB NOT NULL,
    info LONGBLOB NOT NULL,
    asked VARBINARY(255) NOT NULL DEFAULT ''
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
CREATE TABLE IF NOT EXISTS leases (
    node VARBINARY(255) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    expires_at DOUBLE NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
CREATE TABLE IF NOT EXISTS claims (
    node VARBINARY(255) NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

CREATE TABLE IF NOT EXISTS workflows (
    version VARBINARY(255) NOT NULL PRIMARY KEY,
    name VARBINARY(255) NOT NULL,
    put_number BIGINT NOT NULL,
    created_at DOUBLE NOT NULL,
    source LONGBLOB NOT NULL,
    data LONGBLOB NOT NULL,
    UNIQUE KEY workflows_by_name (name, put_number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- claim: the number of the claim that brought the run to its owner. attributes_seq: the event as of which the attributes
-- were replaced. runs_claimable serves claims, owners and retention: there are no partial indexes here.
CREATE TABLE IF NOT EXISTS runs (
    run_id VARBINARY(255) NOT NULL PRIMARY KEY,
    workflow VARBINARY(255) NOT NULL,
    version VARBINARY(255) NOT NULL,
    state VARBINARY(64) NOT NULL,
    created_at DOUBLE NOT NULL,
    ended_at DOUBLE,
    `trigger` LONGBLOB NOT NULL,
    parent LONGBLOB,
    error LONGBLOB,
    tasks_total INT NOT NULL,
    tasks_done INT NOT NULL,
    tasks_failed INT NOT NULL,
    last_seq INT NOT NULL,
    owner VARBINARY(255),
    claim BIGINT NOT NULL DEFAULT 0,
    wake_at DOUBLE,
    `key` LONGBLOB,
    tags LONGBLOB NOT NULL,
    params LONGBLOB NOT NULL,
    attributes LONGBLOB NOT NULL,
    attributes_seq INT,
    KEY runs_by_workflow (workflow, run_id),
    KEY runs_by_state (state, run_id),
    KEY runs_claimable (owner, ended_at, wake_at, run_id),
    KEY runs_by_key (`key`(100), run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

CREATE TABLE IF NOT EXISTS run_tags (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    `key` LONGBLOB NOT NULL,
    value LONGBLOB NOT NULL,
    run_id VARBINARY(255) NOT NULL,
    KEY run_tags_by_value (`key`(100), value(100), run_id),
    KEY run_tags_by_run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- The latest run of every key. Whether it holds the key follows from whether it has ended; while it is being created
-- (there is no such run yet), from whether the node that creates it still holds its epoch.
CREATE TABLE IF NOT EXISTS run_keys (
    workflow VARBINARY(255) NOT NULL,
    `key` VARBINARY(2048) NOT NULL,
    run_id VARBINARY(255) NOT NULL,
    node VARBINARY(255) NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (workflow, `key`)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- One row per value, lists item by item. kind is text, number or flag (number 0 or 1): values of different kinds are never
-- equal.
CREATE TABLE IF NOT EXISTS run_attributes (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name LONGBLOB NOT NULL,
    kind VARBINARY(8) NOT NULL,
    text LONGBLOB,
    number DOUBLE,
    run_id VARBINARY(255) NOT NULL,
    KEY run_attributes_by_text (name(100), kind, text(100), run_id),
    KEY run_attributes_by_number (name(100), kind, number, run_id),
    KEY run_attributes_by_run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- Only ever inserted into and deleted from. No foreign key to runs: it would cost a lookup and a lock for every event, and
-- the same transaction writes both.
CREATE TABLE IF NOT EXISTS events (
    run_id VARBINARY(255) NOT NULL,
    seq INT NOT NULL,
    data LONGBLOB NOT NULL,
    PRIMARY KEY (run_id, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- A number is never given twice, so a repeated flush cannot delete a newer message.
CREATE TABLE IF NOT EXISTS inbox (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    run_id VARBINARY(255) NOT NULL,
    kind VARBINARY(1100) NOT NULL,
    payload LONGBLOB NOT NULL,
    KEY inbox_by_run (run_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- Runs deleted by retention whose events are still being removed, a bounded batch at a time.
CREATE TABLE IF NOT EXISTS deleted_runs (
    run_id VARBINARY(255) NOT NULL PRIMARY KEY
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- Attempts on offer to other nodes and workers: see headrace.contracts.ready. Narrow, because claims change rows; what a
-- claimer needs to know of the attempt is written once, beside.
CREATE TABLE IF NOT EXISTS ready (
    `key` VARBINARY(1024) NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL AUTO_INCREMENT,
    run_id VARBINARY(255) NOT NULL,
    queue VARBINARY(255) NOT NULL,
    executor VARBINARY(255) NOT NULL,
    labels LONGBLOB NOT NULL,
    priority INT NOT NULL,
    at_most_once INT NOT NULL,
    offered_at DOUBLE NOT NULL,
    worker VARBINARY(255),
    worker_epoch BIGINT,
    delivery INT NOT NULL DEFAULT 0,
    claimed_at DOUBLE,
    stop INT NOT NULL DEFAULT 0,
    details LONGBLOB,
    UNIQUE KEY ready_by_number (number),
    KEY ready_by_run (run_id),
    KEY ready_by_worker (worker, queue, executor, priority, number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
CREATE TABLE IF NOT EXISTS ready_calls (
    `key` VARBINARY(1024) NOT NULL PRIMARY KEY,
    run_id VARBINARY(255) NOT NULL,
    `call` LONGBLOB NOT NULL,
    KEY ready_calls_by_run (run_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;

-- Locks, see headrace.contracts.locks. Tokens come from the counter of epochs, so they never return and a free lock needs no
-- row. When a lock ends is beside it, so that a renewal waits for nobody who relies on the lock being held.
CREATE TABLE IF NOT EXISTS locks (
    name VARBINARY(1024) NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    holder VARBINARY(255) NOT NULL,
    node VARBINARY(255) NOT NULL,
    epoch BIGINT NOT NULL,
    taken_at DOUBLE NOT NULL,
    KEY locks_by_node (node)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
CREATE TABLE IF NOT EXISTS lock_ends (
    name VARBINARY(1024) NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    expires_at DOUBLE NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
-- Who stands in line for a lock, in the order of number.
CREATE TABLE IF NOT EXISTS lock_waiters (
    name VARBINARY(1024) NOT NULL,
    number BIGINT NOT NULL,
    holder VARBINARY(255) NOT NULL,
    node VARBINARY(255) NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at DOUBLE NOT NULL,
    PRIMARY KEY (name, number),
    KEY lock_waiters_by_node (node)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
-- The highest term seen of every authority but this database itself.
CREATE TABLE IF NOT EXISTS terms (
    authority VARBINARY(255) NOT NULL PRIMARY KEY,
    term BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
;;
