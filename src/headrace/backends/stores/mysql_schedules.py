"""Schedules in MySQL, see contracts/schedules.py: statements, and rows made of their answers."""

from __future__ import annotations

from typing import Any

from headrace.backends.stores.mysql_connections import Connection
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, state_of
from headrace.backends.stores.mysql_history import commit
from headrace.backends.stores.mysql_text import Value, call, placed
from headrace.contracts.schedules import Due, Firing, ScheduleRow

CHANGED = "HR007"
"""The state of a decision made from another revision than the schedule has."""

_SELECT = "SELECT name, revision, wake_at, data FROM schedules"
PAGE = f"{_SELECT} WHERE name > ? ORDER BY name LIMIT ?"
ONE = f"{_SELECT} WHERE name = ?"


def row_of(values: Any) -> ScheduleRow:
    """A row of :data:`PAGE` and :data:`ONE`."""
    name, revision, wake_at, data = values
    return ScheduleRow(name.decode(), revision, None if wake_at is None else float(wake_at), data)


async def due(db: Connection, limit: int) -> Due:
    """See the contract."""
    now = float((await db.rows(b"SELECT seconds FROM clock"))[0][0])
    rows = await db.rows(placed(f"{_SELECT} WHERE wake_at <= ? ORDER BY wake_at, name LIMIT ?", (now, limit)))
    later = await db.value(placed("SELECT MIN(wake_at) FROM schedules WHERE wake_at > ?", (now,)))
    return Due([row_of(row) for row in rows], None if later is None else float(later), now)


def put_values(row: ScheduleRow) -> tuple[Value, ...]:
    """What ``put_schedule_1`` takes."""
    return row.name, row.revision, None if row.wake_at is None else float(row.wake_at), row.data


async def fire(db: Connection, firing: Firing) -> bool:
    """See the contract."""
    term = (None, None) if firing.term is None else (firing.term.authority, firing.term.number)
    try:
        await commit(db, firing.flush, call("fire_schedule_1", *term, *put_values(firing.row)))
    except DRIVER_ERRORS as error:
        if state_of(error) != CHANGED:
            raise
        return False
    return True
