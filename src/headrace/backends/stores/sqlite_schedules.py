"""Schedules in SQLite, see contracts/schedules.py. Functions take the connection first; those that write run inside a
transaction of their caller."""

from __future__ import annotations

import sqlite3
from typing import Any

from headrace.backends.stores import sqlite_history
from headrace.backends.stores.sqlite_named_locks import check_term
from headrace.contracts.schedules import Due, Firing, ScheduleRow

_SELECT = "SELECT name, revision, wake_at, CAST(data AS BLOB) FROM schedules"
_PUT = "UPDATE schedules SET revision = ?, wake_at = ?, data = ? WHERE name = ? AND revision = ?"


def _row(values: Any) -> ScheduleRow:
    return ScheduleRow(*values)


def schedules(db: sqlite3.Connection, after: str, limit: int) -> list[ScheduleRow]:
    """See the contract."""
    found = db.execute(f"{_SELECT} WHERE name > ? ORDER BY name LIMIT ?", (after, max(limit, 0)))
    return [_row(values) for values in found]


def schedule(db: sqlite3.Connection, name: str) -> ScheduleRow | None:
    """See the contract."""
    found = db.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    return None if found is None else _row(found)


def due(db: sqlite3.Connection, limit: int, now: float) -> Due:
    """See the contract."""
    found = db.execute(f"{_SELECT} WHERE wake_at <= ? ORDER BY wake_at, name LIMIT ?", (now, max(limit, 0))).fetchall()
    later = db.execute("SELECT min(wake_at) FROM schedules WHERE wake_at > ?", (now,)).fetchone()
    return Due([_row(values) for values in found], later[0], now)


def put(db: sqlite3.Connection, row: ScheduleRow) -> bool:
    """See the contract."""
    if row.revision == 1:
        done = db.execute(
            "INSERT INTO schedules (name, revision, wake_at, data) VALUES (?, 1, ?, ?) ON CONFLICT DO NOTHING",
            (row.name, row.wake_at, row.data.decode()),
        )
        return done.rowcount == 1
    return _replace(db, row)


def _replace(db: sqlite3.Connection, row: ScheduleRow) -> bool:
    values = row.revision, row.wake_at, row.data.decode(), row.name, row.revision - 1
    return db.execute(_PUT, values).rowcount == 1


def remove(db: sqlite3.Connection, name: str) -> bool:
    """See the contract."""
    return db.execute("DELETE FROM schedules WHERE name = ?", (name,)).rowcount == 1


def fire(db: sqlite3.Connection, firing: Firing) -> bool:
    """See the contract."""
    sqlite_history.check_fence(db, firing.flush.node, firing.flush.epoch)
    check_term(db, firing.term)
    if not _replace(db, firing.row):
        return False
    sqlite_history.commit(db, firing.flush)
    return True
