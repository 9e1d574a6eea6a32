-- Locks, see contracts/locks.py. Tokens come from the counter of epochs, so they never return and a free lock needs no row.
CREATE TABLE locks (
    name TEXT PRIMARY KEY NOT NULL,
    token INTEGER NOT NULL,
    holder TEXT NOT NULL,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    taken_at REAL NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;

-- Who stands in line for a lock, in the order of number.
CREATE TABLE lock_waiters (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    holder TEXT NOT NULL,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;

-- The highest term seen of every authority but this database itself.
CREATE TABLE terms (
    authority TEXT PRIMARY KEY NOT NULL,
    term INTEGER NOT NULL
) WITHOUT ROWID;

-- What a node was asked to do.
ALTER TABLE nodes ADD COLUMN asked TEXT NOT NULL DEFAULT '';
