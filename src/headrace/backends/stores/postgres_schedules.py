"""Schedules in PostgreSQL, see contracts/schedules.py: statements, arguments, and rows made of answers."""

from __future__ import annotations

from typing import Any

from headrace.backends.stores.postgres_history import flush_arguments, more_arguments
from headrace.contracts.schedules import Due, Firing, ScheduleRow

_SELECT = "SELECT name, revision, wake_at, convert_to(data, 'UTF8') FROM {schema}.schedules"
PAGE = f"{_SELECT} WHERE name > $1 ORDER BY name LIMIT $2"
ONE = f"{_SELECT} WHERE name = $1"

# One statement, so that all of it is judged by one reading of the clock. MATERIALIZED: the clock is read once.
DUE = f"""
WITH time AS MATERIALIZED (SELECT {{schema}}.clock_seconds() AS now),
due AS ({_SELECT} WHERE wake_at <= (SELECT now FROM time) ORDER BY wake_at, name LIMIT $1)
SELECT now, (SELECT min(wake_at) FROM {{schema}}.schedules WHERE wake_at > now), due.*
FROM time LEFT JOIN due ON true ORDER BY due.wake_at, due.name"""


def row_of(values: Any) -> ScheduleRow:
    """A row of :data:`PAGE` and :data:`ONE`."""
    return ScheduleRow(*values)


def due_of(rows: list[Any]) -> Due:
    """The answer of :data:`DUE`: a row at least."""
    now, next_at = rows[0][:2]
    return Due([ScheduleRow(*row[2:]) for row in rows if row[2] is not None], next_at, now)


def put_arguments(row: ScheduleRow) -> tuple[Any, ...]:
    """What ``put_schedule_1`` takes."""
    return row.name, row.revision, row.wake_at, row.data.decode()


def fire_arguments(firing: Firing) -> list[Any]:
    """What ``fire_1`` takes."""
    term = (None, None) if firing.term is None else (firing.term.authority, firing.term.number)
    return [*term, *put_arguments(firing.row), *flush_arguments(firing.flush), *more_arguments(firing.flush)]
